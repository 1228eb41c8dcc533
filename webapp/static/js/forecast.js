// The forecast and all beside it follow the form: what POST /details returns replaces what the page shows.
import { alpha, colour, draw } from "./chart.js";
import { on } from "./live.js";

const WAIT_MS = 120;
const BUSY_MS = 400;
const OTHER_WORKER_MS = 1000;
const form = document.getElementById("vehicle");
const news = document.getElementById("news");
const spoken = document.getElementById("spoken");
const text = document.getElementById("text");
const seen = new IntersectionObserver(([entry]) => document.getElementById("result").toggleAttribute("data-seen", entry.isIntersecting));
let timer = 0;
let turn = 0;

// What the page shows now: by which model, and as which number.
function shown() {
  const answer = document.getElementById("answer");
  return { version: answer.dataset.version, figure: answer.querySelector(".figure").textContent };
}

// Marked for a slow answer only: a quick one would flicker.
function busy() {
  const soon = setTimeout(() => document.getElementById("result").setAttribute("aria-busy", "true"), BUSY_MS);
  return () => {
    clearTimeout(soon);
    document.getElementById("result").removeAttribute("aria-busy");
  };
}

async function update() {
  const mine = ++turn;
  const done = busy();
  let page = null;
  let problem = "The server cannot be reached. What you typed is kept.";
  try {
    const response = await fetch(form.dataset.details, { method: "POST", body: new FormData(form), headers: { Accept: "text/html" } });
    page = new DOMParser().parseFromString(await response.text(), "text/html");
    problem = "The forecast cannot be shown now. Reload the page; what you typed is kept.";
  } catch { /* the sentence above */ }
  done();
  if (mine === turn) replace(page, problem);
}

function replace(page, problem) {
  if (!page?.getElementById("result")) {
    document.querySelector("#answer .figure").textContent = "–";
    document.querySelector("#answer .says").textContent = spoken.textContent = problem;
    return;
  }
  const opened = [...document.querySelectorAll("#result details")].map((el) => el.open);
  for (const fresh of page.querySelectorAll("#result, .error, .warning")) document.getElementById(fresh.id).replaceWith(fresh);
  document.querySelectorAll("#result details").forEach((el, i) => { el.open = opened[i] ?? false; });
  for (const error of form.querySelectorAll(".error")) {
    for (const input of error.closest("[data-field]").querySelectorAll("input")) {
      if (error.textContent) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
  }
  const { version, figure } = shown();
  const says = document.querySelector("#answer .says").textContent;
  spoken.textContent = version ? `Forecast: ${figure} bookings. ${says}` : says;
  if (version) history.replaceState(null, "", document.getElementById("result").dataset.address);
  show();
}

function show() {
  for (const figure of document.querySelectorAll("[data-chart=curve]")) drawCurve(figure);
  seen.disconnect();
  seen.observe(document.getElementById("answer"));
}

// Another model forecasts now: says so, and asks again where the worker that answered has the old one still.
async function follow(version, isSecond = false) {
  const before = shown();
  await update();
  const { version: by, figure } = shown();
  if (by !== version && !isSecond) setTimeout(follow, OTHER_WORKER_MS, version, true);
  if (!by || !before.version || by === before.version) return;
  news.hidden = false;
  news.textContent = `Updated with newer data: ${before.figure} is ${figure === before.figure ? "still" : "now"} ${figure}, model ${by}.`;
}

// Vertical lines at two prices, and then their labels: on the side away from the other line, if there is room.
function drawPrices({ ctx, bbox, scales, valToPos }, prices) {
  const ratio = devicePixelRatio;
  const gap = 6 * ratio;
  const lines = prices.map((line, row) => ({ ...line, row, x: valToPos(line.price, "x", true), other: prices[1 - row].price }));
  const inside = lines.filter(({ price }) => price >= scales.x.min && price <= scales.x.max);
  ctx.save();
  ctx.lineWidth = 2 * ratio;
  ctx.font = `600 ${12 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
  ctx.textAlign = "left";
  for (const { x, stroke, dash } of inside) {
    ctx.strokeStyle = stroke;
    ctx.setLineDash(dash.map((d) => d * ratio));
    ctx.stroke(new Path2D(`M${x} ${bbox.top}v${bbox.height}`));
  }
  for (const { x, stroke, label, row, price, other } of inside) {
    const { width } = ctx.measureText(label);
    const onLeft = price < other ? x - width - gap > bbox.left : x + width + gap > bbox.left + bbox.width;
    const left = onLeft ? x - gap - width : x + gap;
    const top = bbox.top + (2 + 16 * row) * ratio;
    ctx.fillStyle = colour("sheet"); // hides a line that it crosses
    ctx.fillRect(left - 1, top, width + 2, 16 * ratio);
    ctx.fillStyle = stroke;
    ctx.fillText(label, left, top + 12 * ratio);
  }
  ctx.restore();
}

// A curve over other prices, with a slider to read it.
function drawCurve(figure) {
  const now = Number(figure.dataset.now);
  const market = Number(figure.dataset.market);
  const slider = figure.querySelector("input[type=range]");
  const readout = figure.querySelector("output");
  const rows = [...figure.querySelectorAll("tbody tr")];
  const read = (index) => {
    const [price, middle, low, high] = [...rows[index].cells].map((cell) => cell.textContent.trim());
    const figures = { price, middle, low, high };
    const words = figure.dataset.says.replace(/{(\w+)}/g, (_, name) => figures[name]);
    readout.textContent = words;
    slider.value = index;
    slider.setAttribute("aria-valuetext", words);
  };
  let plot = null;
  draw(figure, ({ price, middle, low, high }) => ({
    x: "Price per day",
    y: figure.dataset.y,
    data: [price, high, low, middle],
    options: {
      padding: [null, Math.max(17, 4 * Math.round(price.at(-1)).toLocaleString("en").length), null, null], // for the last price's digits
      scales: { x: { time: false }, y: { range: (u, min, max) => [0, Math.max(5, max * 1.08)] } },
      series: [
        {},
        { stroke: colour("band"), width: 1.5, points: { show: false } },
        { stroke: colour("band"), width: 1.5, points: { show: false } },
        { stroke: colour("road"), width: 3, points: { show: false } },
      ],
      bands: [{ series: [1, 2], fill: alpha("band", 0.35) }],
      cursor: { y: false, points: { show: (u, i) => (i === 3 ? undefined : false), size: 10, fill: colour("road") } },
      hooks: {
        ready: [(u) => { plot = u; }],
        draw: [(u) => drawPrices(u, [
          { price: now, label: "now", stroke: colour("ink"), dash: [] },
          { price: market, label: "market", stroke: colour("soft"), dash: [4, 4] },
        ])],
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
    if (Math.abs(row.cells[0].dataset.v - now) < Math.abs(rows[nearest].cells[0].dataset.v - now)) nearest = i;
  });
  read(nearest);
}

form.addEventListener("input", ({ target }) => {
  if (target === text) form.elements.description.value = [...text.value.trim()].length;
  news.hidden = true;
  clearTimeout(timer);
  timer = setTimeout(update, WAIT_MS);
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.value !== "forecast") return; // the server saves a form once, also after a double click
  event.preventDefault();
  update();
});
on("model", ({ version }) => follow(version));

text.removeAttribute("name"); // it is counted here and stays here
show();
// The server did not forecast what was typed before this script ran or is restored by the browser.
if ([...form.querySelectorAll("input:not([type=hidden])")].some((el) => el.value !== el.defaultValue || el.checked !== el.defaultChecked)) update();
