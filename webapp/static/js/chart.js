// Charts are drawn from tables of the page, which screen readers and printers use instead.
// A cell may have a more exact value in data-v.
const drawn = new Set();
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

export function cells(table) {
  const columns = {};
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.dataset.key);
  for (const key of heads) if (key) columns[key] = [];
  for (const row of table.tBodies[0].rows) {
    heads.forEach((key, i) => key && columns[key].push(numberOf(row.cells[i].dataset.v ?? row.cells[i].textContent)));
  }
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

function axis(label, extra = {}) {
  return {
    stroke: colour("soft"),
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    labelFont: `12px ${getComputedStyle(document.body).fontFamily}`,
    label,
    labelSize: 18,
    labelGap: 2,
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
    ...extra,
  };
}

// draw(figure, build): build({ table data }, library) gives { data, options }; drawn again when size or theme changes.
export async function draw(figure, build) {
  const place = figure.querySelector(".plot");
  const columns = cells(figure.querySelector("table"));
  const chart = { plot: null };
  let uPlot;
  try {
    await isNear(place);
    uPlot = await loadLibrary();
  } catch {
    place.hidden = true;
    figure.querySelector("details").open = true; // the same as a table
    return;
  }
  const render = () => {
    const width = Math.floor(place.clientWidth);
    if (!width || !place.isConnected) return;
    chart.plot?.destroy();
    const height = Number(figure.dataset.height ?? 280);
    const { data, options, x = "", y = "", xAxis = {} } = build(columns, uPlot);
    chart.plot = new uPlot(
      {
        width,
        height,
        legend: { show: false },
        scales: { x: { time: false } },
        axes: [axis(x, { size: 34, ...xAxis }), axis(y, { size: 44 })],
        ...options,
        cursor: { drag: { x: false, y: false }, points: { size: 9 }, ...options.cursor },
      },
      data,
      place,
    );
  };
  chart.render = render;
  chart.place = place;
  drawn.add(chart);
  figure.dataset.drawn = ""; // printed instead of its table
  render();
}

function redrawAll() {
  for (const chart of drawn) {
    if (chart.place.isConnected) chart.render();
    else {
      chart.plot?.destroy();
      drawn.delete(chart);
    }
  }
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
