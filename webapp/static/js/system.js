// Measures this server: a fixed number of requests, one at a time, never in a hidden tab.
import { alpha, colour, draw, showRow } from "./chart.js";

const NUM_BINS = 24;
const place = document.getElementById("latency");
const button = document.getElementById("measure");
const progress = document.getElementById("progress");
const outcome = document.getElementById("outcome");
const written = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

class StoppedError extends Error {}

async function once(path, body) {
  const asked = performance.now();
  const response = await fetch(document.body.dataset.root + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body,
    cache: "no-store",
  });
  await response.text();
  const passed = performance.now() - asked;
  if (response.status === 429) throw new StoppedError("The server allows no more requests now. Try again in a minute.");
  if (!response.ok) throw new StoppedError(`The server answered ${response.status} to ${path}.`);
  // The browser's own timing of the exchange leaves out the time that scripts take.
  const entry = performance.getEntriesByType("resource").at(-1);
  performance.clearResourceTimings();
  return entry && entry.requestStart > 0 ? entry.responseEnd - entry.requestStart : passed;
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}

function row(values) {
  const tr = document.createElement("tr");
  values.forEach((value, i) => {
    const cell = document.createElement(i === 0 ? "th" : "td");
    if (i === 0) cell.scope = "row";
    else cell.className = "num";
    cell.textContent = value;
    tr.append(cell);
  });
  return tr;
}

function show(times) {
  document.getElementById("results").hidden = false;
  const table = document.querySelector("#percentiles tbody");
  const all = Object.entries(times).map(([path, taken]) => [path, [...taken].sort((a, b) => a - b)]);
  const ms = (value) => `${value.toFixed(1)} ms`; // browsers measure tenths
  table.replaceChildren(
    ...all.map(([path, sorted]) =>
      row([path, sorted.length, ms(percentile(sorted, 0.5)), ms(percentile(sorted, 0.9)), ms(percentile(sorted, 0.99)), ms(sorted.at(-1))]),
    ),
  );
  const top = Math.max(...all.map(([, sorted]) => percentile(sorted, 0.99))) * 1.05;
  const width = top / NUM_BINS;
  const counts = all.map(([, sorted]) => {
    const bins = new Array(NUM_BINS).fill(0);
    for (const value of sorted) bins[Math.min(NUM_BINS - 1, Math.floor(value / width))] += 1;
    return bins;
  });
  const figure = document.querySelector("#histogram figure");
  const rows = Array.from({ length: NUM_BINS }, (_, i) => row([written.format(i * width), counts[0][i], counts[1]?.[i] ?? "–"]));
  const last = rows.at(-1).cells[0];
  last.dataset.v = last.textContent;
  last.append(" and more");
  figure.querySelector("tbody").replaceChildren(...rows);
  draw(figure, ({ time, typed, stored }, uPlot) => {
    const paths = uPlot.paths.stepped({ align: 1, extend: true });
    const line = (name) => ({ stroke: colour(name), width: 2, fill: alpha(name, 0.18), paths, points: { show: false } });
    return {
      x: "Milliseconds (last step: and more)",
      y: "Answers",
      data: [time, typed, stored],
      options: { scales: { x: { time: false, range: [0, top] } }, series: [{}, line("road"), line("second")], hooks: { setCursor: [showRow(figure)] } },
    };
  });
}

async function measure() {
  const requests = Number(place.dataset.requests);
  const paths = { "/predict": place.dataset.vehicle };
  if (place.dataset.vehicleId) paths["/predict/id"] = JSON.stringify({ vehicle_id: Number(place.dataset.vehicleId) });
  const times = Object.fromEntries(Object.keys(paths).map((path) => [path, []]));
  button.disabled = true;
  progress.hidden = false;
  outcome.textContent = "";
  let text = "Done.";
  try {
    for (const [path, body] of Object.entries(paths)) for (let i = 0; i < 10; i++) await once(path, body); // warm
    for (let i = 0; i < requests; i++) {
      if (document.hidden) throw new StoppedError("Stopped because the page was hidden.");
      for (const [path, body] of Object.entries(paths)) times[path].push(await once(path, body));
      progress.value = (i + 1) / requests;
    }
  } catch (error) {
    text = error instanceof StoppedError ? error.message : "The server cannot be reached.";
  }
  if (times["/predict"].length > 20) show(times);
  outcome.textContent = text;
  progress.hidden = true;
  button.disabled = false;
}

button?.addEventListener("click", measure);
