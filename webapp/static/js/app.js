// What every page does: theme, times in the reader's time zone, confirmations, updates.
import { on, start } from "./live.js";

// Written as the server writes moments: the pages are in English, whatever the browser's language is.
const zoned = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    time.textContent = zoned.format(moment);
    time.title = exact.format(moment);
  }
}

// By the bar's own scroll: after scrollIntoView the first Tab would start from there.
function showCurrentPage() {
  const bar = document.querySelector(".nav");
  const current = bar.querySelector("[aria-current]");
  if (current) bar.scrollLeft = current.offsetLeft - bar.offsetLeft - (bar.clientWidth - current.offsetWidth) / 2;
}

function toast(text) {
  const place = document.getElementById("toast");
  place.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (place.textContent = ""), 6000);
}

function themeSwitch() {
  const button = document.getElementById("theme");
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `${document.body.dataset.instance}-theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
    document.dispatchEvent(new Event("themechange"));
  });
}

// Sends a form once its question is answered with yes; a risky button is neither the first in line nor the coloured one.
function showQuestion(form) {
  const { confirm: question, does, button } = form.dataset;
  const [isRisky, asksReason] = [form.dataset.risky, form.dataset.reason].map((flag) => flag !== undefined);
  const dialog = document.getElementById("question");
  const [reason, yes, no] = ["[name=reason]", "[value=yes]", "[type=button]"].map((part) => dialog.querySelector(part));
  dialog.querySelector("h2").textContent = question;
  dialog.querySelector("p").textContent = does;
  reason.parentNode.hidden = reason.disabled = !asksReason;
  reason.value = "";
  Object.assign(yes, { textContent: button, className: `button ${isRisky ? "risky" : "main"}` });
  (isRisky ? no : yes).after(isRisky ? yes : no);
  dialog.returnValue = "";
  no.onclick = () => dialog.close(); // not a submit button, which Enter in the reason's field would press
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return;
    for (const [name, value] of Object.entries({ confirmed: "yes", ...(asksReason && { reason: reason.value }) })) {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
    for (const press of form.querySelectorAll("button")) press.disabled = true;
    form.submit();
  };
  dialog.showModal();
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.confirm) return;
  event.preventDefault();
  showQuestion(event.target);
});

showCurrentPage();
localTimes(document);
themeSwitch();
on("replaced", localTimes);
on("model", ({ version }) => toast(version ? `Model ${version} is live now.` : "No model is live now."));
start();
