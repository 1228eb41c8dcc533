// Charts are drawn from tables of the page, which screen readers and printers use instead.
// A cell may have a more exact value in data-v.
import { on } from "./live.js";

const drawn = new Map(); // by its figure, what is drawn there
let library = null;

// The chart library, fetched by the first chart of a page.
function loadLibrary() {
  library ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL("../vendor/uPlot.iife.min.js", import.meta.url);
    script.onload = () => done(window.uPlot);
    script.onerror = failed;
    document.head.append(script);
  });
  return library;
}

// Waits until a place is near the window: a chart that nobody sees needs no library.
function isNear(place) {
  return new Promise((done) => {
    const watch = new IntersectionObserver(([entry]) => {
      if (!entry.isIntersecting) return;
      watch.disconnect();
      done();
    }, { rootMargin: "300px" });
    watch.observe(place);
  });
}

function columnsOf(table) {
  const columns = {};
  [...table.tHead.rows[0].cells].forEach(({ dataset: { key } }, i) => {
    if (key) columns[key] = [...table.tBodies[0].rows].map((row) => numberOf(row.cells[i].dataset.v ?? row.cells[i].textContent));
  });
  return columns;
}

function numberOf(text) {
  const clean = text.replace(/[\s,%]/g, "").replace("−", "-");
  return clean === "" || clean === "–" ? null : Number(clean);
}

export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export function alpha(name, share) {
  return `color-mix(in srgb, ${colour(name)} ${share * 100}%, transparent)`;
}

function axis(label, extra) {
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const grid = { stroke: colour("line"), width: 1 };
  return { stroke: colour("soft"), font, labelFont: font, label, labelSize: 18, labelGap: 2, grid, ticks: { show: false }, ...extra };
}

// Of the longest number at a vertical axis, which its title stands beside.
function widthOf(u, texts) {
  return Math.max(44, ...(texts ?? []).map((text) => 7 * text.length + 9));
}

// A chart goes with the part of the page that it was in.
function destroyReplaced() {
  for (const [figure, { plot }] of drawn) {
    if (figure.isConnected) continue;
    plot?.destroy();
    drawn.delete(figure);
  }
}

// build({ table data }, library, what load returned) gives { data, options }; drawn again when size or theme changes.
export async function draw(figure, build, load = () => null) {
  destroyReplaced();
  const place = figure.querySelector(".plot");
  const columns = columnsOf(figure.querySelector("table"));
  let uPlot;
  let loaded;
  try {
    await isNear(place);
    [uPlot, loaded] = await Promise.all([loadLibrary(), load()]);
  } catch {
    place.hidden = true;
    figure.querySelector("details").open = true;
    const hint = figure.querySelector("p.readout");
    if (hint) hint.textContent = "The chart cannot be drawn. The table has its figures.";
    return;
  }
  const render = () => {
    const width = Math.floor(place.clientWidth);
    if (!width) return;
    drawn.get(figure).plot?.destroy();
    const { data, options, x, y, xAxis = {} } = build(columns, uPlot, loaded);
    drawn.get(figure).plot = new uPlot(
      {
        width,
        height: place.clientHeight,
        legend: { show: false },
        scales: { x: { time: false } },
        axes: [axis(x, { size: 34, ...xAxis }), axis(y, { size: widthOf })],
        ...options,
        cursor: { drag: { x: false, y: false }, points: { size: 9 }, ...options.cursor },
      },
      data,
      place,
    );
  };
  drawn.get(figure)?.plot?.destroy();
  drawn.set(figure, { plot: null, render });
  figure.dataset.drawn = ""; // printed instead of its table
  render();
}

// A hook of the library: says the row of the table at the cursor.
export function showRow(figure) {
  const table = figure.querySelector("table");
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  return ({ cursor: { idx } }) => {
    const row = table.tBodies[0].rows[idx];
    if (row) figure.querySelector(".readout").textContent = [...row.cells].map((cell, i) => `${heads[i]} ${cell.textContent}`).join(", ");
  };
}

// Draws each chart of the page by its kind, also in a part that is replaced.
export function drawAll(kinds) {
  const drawIn = (root) => {
    for (const [kind, drawChart] of Object.entries(kinds)) root.querySelectorAll(`[data-chart=${kind}]`).forEach(drawChart);
  };
  drawIn(document);
  on("replaced", drawIn);
}

function redrawAll() {
  destroyReplaced();
  for (const { render } of drawn.values()) render();
}

let timer = 0;
function redrawSoon() {
  clearTimeout(timer);
  timer = setTimeout(redrawAll, 60);
}

// Charts are printed light, also from the dark theme.
function redrawIn(scheme) {
  document.documentElement.style.colorScheme = scheme;
  redrawAll();
}

addEventListener("resize", redrawSoon);
document.addEventListener("themechange", redrawSoon);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawSoon);
document.addEventListener("toggle", redrawSoon, true);
addEventListener("beforeprint", () => redrawIn("light"));
addEventListener("afterprint", () => redrawIn(""));
