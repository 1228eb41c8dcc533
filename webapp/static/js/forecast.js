// The forecast follows the form: the number from POST /predict at once, the rest from the page's own details.
import { drawCurve } from "./curve.js";
import { on } from "./live.js";

const WAIT_MS = 120;
const BUSY_MS = 400;
const LIMITED = "Too many forecasts in a short time. Wait a moment, then change a field.";
const form = document.getElementById("vehicle");
const answer = document.getElementById("answer");
const details = document.getElementById("details");
const follow = document.getElementById("follow");
const counted = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
let timer = 0;
let turn = 0;

function put(name, text) {
  for (const place of document.querySelectorAll(`[data-answer="${name}"]`)) place.textContent = text;
}

function vehicle() {
  const data = new FormData(form);
  const names = new Set([...form.querySelectorAll("[data-field]")].map((el) => el.dataset.field));
  const values = {};
  for (const name of names) {
    const text = data.get(name);
    if (text === null || text === "" || !Number.isFinite(Number(text))) return null;
    values[name] = Number(text);
  }
  return values;
}

// A field that holds no number, such as "1e", has no value either, but it is not empty.
function isFilled() {
  return [...form.elements].every((el) => !el.validity.valueMissing || el.validity.badInput);
}

function showErrors(errors) {
  for (const field of form.querySelectorAll("[data-field]")) {
    const error = errors[field.dataset.field] ?? "";
    field.classList.toggle("bad", Boolean(error));
    field.querySelector(".error").textContent = error;
    const input = field.querySelector("input");
    if (error) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

function showRange(low, middle, high) {
  const top = Math.max(20, Math.ceil(high / 5) * 5);
  const share = (value) => `${((100 * value) / top).toFixed(2)}%`;
  const range = document.getElementById("range");
  range.setAttribute("aria-label", `Range from ${counted.format(low)} to ${counted.format(high)} on a scale from 0 to ${top}`);
  const marks = document.getElementById("range-marks");
  marks.removeAttribute("visibility");
  marks.querySelector(".spread").setAttribute("x", share(low));
  marks.querySelector(".spread").setAttribute("width", share(high - low));
  marks.querySelector(".middle").setAttribute("x", share(middle));
  for (const [end, value] of [["low", low], ["high", high]]) {
    const text = marks.querySelector(`[data-end=${end}]`);
    text.setAttribute("x", share(value));
    text.textContent = counted.format(value);
  }
}

function showForecast(forecast) {
  const { low, high, coverage } = forecast.interval;
  const number = counted.format(forecast.predicted_reservations);
  state("ready");
  put("figure", number);
  put("spoken", `Forecast: ${number} reservations, most likely ${counted.format(low)} to ${counted.format(high)}.`);
  put("says", `${Math.round(coverage * 10)} in 10 cars like this one get between ${counted.format(low)} and ${counted.format(high)} reservations.`);
  put("short", `reservations, ${counted.format(low)} to ${counted.format(high)}`);
  const link = document.createElement("a");
  link.href = "/models";
  link.textContent = `model ${forecast.model_version}`;
  for (const place of document.querySelectorAll('[data-answer="source"]')) place.replaceChildren("By ", link, ".");
  showRange(low, forecast.predicted_reservations, high);
}

function state(kind) {
  answer.dataset.state = kind;
  follow.hidden = kind !== "ready";
}

function showNothing(kind, text) {
  state(kind);
  put("figure", "–");
  put("says", text);
  put("spoken", text);
  put("short", "");
  put("source", "");
  document.getElementById("range-marks").setAttribute("visibility", "hidden");
  document.getElementById("range").setAttribute("aria-label", "No range yet");
}

// A slow answer shows that it is on its way; a quick one does not flicker.
function busy() {
  const soon = setTimeout(() => answer.parentElement.setAttribute("aria-busy", "true"), BUSY_MS);
  return () => {
    clearTimeout(soon);
    answer.parentElement.removeAttribute("aria-busy");
  };
}

async function update() {
  const mine = ++turn;
  const done = busy();
  const values = vehicle();
  const number = values === null ? null : predict(values);
  const rest = fetch(form.dataset.details, { method: "POST", body: new FormData(form), headers: { Accept: "text/html, application/json" } });
  try {
    const forecast = await number;
    if (mine !== turn) return;
    if (forecast) showForecast(forecast);
    done();
    const response = await rest;
    if (mine !== turn) return;
    if (response.status === 422) {
      showErrors((await response.json()).errors);
      details.replaceChildren();
      showNothing("incomplete", isFilled() ? "Correct the marked field to see the forecast." : "Fill in every field to see the forecast.");
    } else if (response.ok) {
      showErrors({});
      const text = await response.text();
      if (mine !== turn) return;
      showDetails(text);
    } else if (response.status === 429) {
      showErrors({});
      showDetails(forecast ? `<p class="notice warn">${LIMITED} The number stands.</p>` : "");
    } else {
      showDetails(forecast ? '<p class="notice warn">The reasons behind the number cannot be shown just now. The number stands.</p>' : "");
    }
  } catch {
    if (mine === turn) showNothing("waiting", "The server cannot be reached. What you typed stays here.");
  } finally {
    done();
  }
}

async function predict(values) {
  const response = await fetch(form.dataset.predict, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(values),
  });
  if (response.ok) return response.json();
  if (response.status === 503) {
    showNothing("waiting", "No model serves yet. As soon as one is promoted, this page starts forecasting by itself.");
  } else if (response.status === 429) {
    showNothing("waiting", LIMITED);
  }
  return null;
}

function showDetails(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  const open = details.querySelector("details")?.open ?? false;
  details.replaceChildren(...parsed.body.childNodes);
  details.querySelector("details")?.toggleAttribute("open", open);
  drawDetails();
}

function drawDetails() {
  for (const figure of details.querySelectorAll("[data-chart=curve]")) drawCurve(figure);
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(update, WAIT_MS);
});
// Chromium drops the comma of a pasted "62,50"; with one or two digits behind it, it can only be a decimal point.
form.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text/plain").trim();
  if (event.target.type !== "number" || !/^\d+,\d{1,2}$/.test(text)) return;
  event.preventDefault();
  event.target.value = text.replace(",", ".");
  event.target.dispatchEvent(new Event("input", { bubbles: true }));
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.value === "save") return; // the server saves, once, whatever is clicked twice
  event.preventDefault();
  update();
});
on("model", update);

const ends = [...document.querySelectorAll("#range-marks text")].map((text) => text.textContent.trim());
put("short", answer.dataset.state === "ready" ? `reservations, ${ends.join(" to ")}` : "");
put("figure", document.querySelector(".figure").textContent);
state(answer.dataset.state);
drawDetails();
// What was typed before this script ran, or comes back with the page, is not what the server forecast.
if ([...form.querySelectorAll("input")].some((el) => el.value !== el.defaultValue || el.checked !== el.defaultChecked)) update();
new IntersectionObserver(([entry]) => follow.toggleAttribute("data-seen", entry.isIntersecting)).observe(answer);
