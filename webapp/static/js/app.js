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

function showQuestion(form) {
  const { confirm: question, does, button } = form.dataset;
  const dialog = document.createElement("dialog");
  const heading = document.createElement("h2");
  heading.textContent = question;
  heading.id = "question";
  dialog.setAttribute("aria-labelledby", "question");
  const text = document.createElement("p");
  text.textContent = does;
  const buttons = document.createElement("form");
  buttons.method = "dialog";
  buttons.className = "row";
  const reason = document.createElement("input");
  if (form.dataset.reason) {
    const label = document.createElement("label");
    Object.assign(reason, { required: true, maxLength: Number(form.dataset.reason), className: "plain", name: "reason" });
    label.append("Reason, kept in the history", reason);
    label.className = "field wide";
    buttons.append(label);
  }
  const risky = form.dataset.risky !== undefined; // then neither the first in line nor the coloured one
  const choices = [["yes", button, `button ${risky ? "risky" : "main"}`], ["", "Cancel", "button"]];
  for (const [value, label, kind] of risky ? choices.reverse() : choices) {
    const choice = document.createElement("button");
    Object.assign(choice, { value, textContent: label, className: kind, formNoValidate: value === "" });
    buttons.append(choice);
  }
  dialog.append(heading, text, buttons);
  document.body.append(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue !== "yes") return;
    const confirmed = document.createElement("input");
    Object.assign(confirmed, { type: "hidden", name: "confirmed", value: "yes" });
    reason.hidden = true;
    form.append(confirmed, reason);
    for (const press of form.querySelectorAll("button")) press.disabled = true;
    form.submit();
  });
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
on("model", ({ version }) => toast(version ? `Model ${version} serves now.` : "No model serves now."));
start();
