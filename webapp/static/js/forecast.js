// The forecast follows the form: the number from POST /predict, the rest from POST /details.
import { alpha, colour, draw } from "./chart.js";
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

// A field with an incomplete number, such as "1e", has no value, but it is not empty.
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
  const { low, high, coverage, segment, segment_coverage: covered } = forecast.interval;
  const number = counted.format(forecast.predicted_reservations);
  state("ready");
  put("figure", number);
  put("spoken", `Forecast: ${number} reservations, most likely ${counted.format(low)} to ${counted.format(high)}.`);
  const others = covered === null ? "" : ` Of the cars ${segment.replaceAll(" %", "%")}, ${Math.round(covered * 100)}% were within their range.`;
  put("says", `${Math.round(coverage * 10)} in 10 cars like this one get between ${counted.format(low)} and ${counted.format(high)} reservations.${others}`);
  put("short", `reservations, ${counted.format(low)} to ${counted.format(high)}`);
  put("period", period(forecast));
  const link = document.createElement("a");
  link.href = "/models";
  link.textContent = `model ${forecast.model_version}`;
  for (const place of document.querySelectorAll('[data-answer="source"]')) place.replaceChildren("By ", link, ".");
  showRange(low, forecast.predicted_reservations, high);
}

// A model of an earlier release does not know which days it counts.
function period({ watch, per_year, per_month }) {
  if (!watch) return "";
  return `in the ${watch.days.toLocaleString("en")} days of ${watch.first_day} to ${watch.last_day}; about ${counted.format(per_year)} a year, ${counted.format(per_month)} a month`;
}

function state(kind) {
  answer.dataset.state = kind;
  follow.hidden = kind !== "ready";
}

function showNothing(kind, text) {
  state(kind);
  put("figure", "–");
  put("period", "");
  put("says", text);
  put("spoken", text);
  put("short", "");
  put("source", "");
  document.getElementById("range-marks").setAttribute("visibility", "hidden");
  document.getElementById("range").setAttribute("aria-label", "No range yet");
}

// Shown for a slow answer only: a quick one would flicker.
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
      showDetails(forecast ? `<p class="notice warn">${LIMITED} The number above is still right.</p>` : "");
    } else {
      showDetails(forecast ? '<p class="notice warn">The reasons cannot be shown now. The number above is still right.</p>' : "");
    }
  } catch {
    if (mine === turn) showNothing("waiting", "The server cannot be reached. What you typed is kept.");
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
    showNothing("waiting", "There are no forecasts yet. They appear here by themselves once the first model is ready.");
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

// Draws a vertical line with its label on the side away from the other line, if there is room.
function mark(u, value, other, text, stroke, dash, line) {
  if (value < u.scales.x.min || value > u.scales.x.max) return;
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio;
  const x = u.valToPos(value, "x", true);
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.fillStyle = stroke;
  ctx.lineWidth = 2 * ratio;
  ctx.setLineDash(dash.map((d) => d * ratio));
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.font = `600 ${12 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
  const gap = 6 * ratio;
  const room = ctx.measureText(text).width + gap;
  const onLeft = value < other ? x - room > bbox.left : x + room > bbox.left + bbox.width;
  ctx.textAlign = onLeft ? "right" : "left";
  ctx.fillText(text, x + (onLeft ? -gap : gap), bbox.top + (14 + 16 * line) * ratio);
  ctx.restore();
}

// The curve of other prices, with a slider to read it.
function drawCurve(figure) {
  const now = Number(figure.dataset.now);
  const market = Number(figure.dataset.market);
  const slider = figure.querySelector("input[type=range]");
  const readout = figure.querySelector("output");
  const rows = [...figure.querySelectorAll("tbody tr")];
  const read = (index) => {
    const [price, forecast, low, high] = [...rows[index].cells].map((cell) => cell.textContent.trim());
    const words = `At ${price} per day: ${forecast} reservations, ${low} to ${high}`;
    readout.textContent = words;
    slider.value = index;
    slider.setAttribute("aria-valuetext", words);
  };
  let plot = null;
  draw(figure, ({ price, forecast, low, high }) => ({
    x: "Price per day",
    y: "Reservations",
    data: [price, high, low, forecast],
    options: {
      padding: [null, Math.max(17, 4 * Math.round(price.at(-1)).toLocaleString("en").length), null, null], // for the last price's digits
      scales: { x: { time: false }, y: { range: (u, min, max) => [0, Math.max(5, max * 1.08)] } },
      series: [
        {},
        { stroke: "transparent", points: { show: false } },
        { stroke: "transparent", points: { show: false } },
        { stroke: colour("road"), width: 3, points: { show: false } },
      ],
      bands: [{ series: [1, 2], fill: alpha("band", 0.75) }],
      cursor: { y: false, points: { show: (u, i) => (i === 3 ? undefined : false), size: 10, fill: colour("road") } },
      hooks: {
        ready: [(u) => { plot = u; }],
        draw: [(u) => {
          mark(u, market, now, "market", colour("soft"), [4, 4], 1);
          mark(u, now, market, "now", colour("ink"), [], 0);
        }],
        setCursor: [(u) => { if (u.cursor.idx !== null && u.cursor.event) read(u.cursor.idx); }],
      },
    },
  }));
  slider.addEventListener("input", () => {
    const index = Number(slider.value);
    read(index);
    plot?.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: plot.valToPos(plot.data[3][index], "y") });
  });
  let nearest = 0;
  rows.forEach((row, i) => {
    if (Math.abs(Number(row.dataset.price) - now) < Math.abs(Number(rows[nearest].dataset.price) - now)) nearest = i;
  });
  read(nearest);
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(update, WAIT_MS);
});
// Chromium drops the comma of a pasted "62,50". With one or two digits after it, it is a decimal point.
form.addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text/plain").trim();
  if (event.target.type !== "number" || !/^\d+,\d{1,2}$/.test(text)) return;
  event.preventDefault();
  event.target.value = text.replace(",", ".");
  event.target.dispatchEvent(new Event("input", { bubbles: true }));
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.value === "save") return; // the server saves a form once, also after a double click
  event.preventDefault();
  update();
});
on("model", update);

const ends = [...document.querySelectorAll("#range-marks text")].map((text) => text.textContent.trim());
put("short", answer.dataset.state === "ready" ? `reservations, ${ends.join(" to ")}` : "");
put("figure", document.querySelector(".figure").textContent);
state(answer.dataset.state);
drawDetails();
// The server did not forecast what was typed before this script ran or is restored by the browser.
if ([...form.querySelectorAll("input")].some((el) => el.value !== el.defaultValue || el.checked !== el.defaultChecked)) update();
new IntersectionObserver(([entry]) => follow.toggleAttribute("data-seen", entry.isIntersecting)).observe(answer);
