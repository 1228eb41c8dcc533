// The champion's errors: by groups of cars, and real ones over time.
import { colour, draw, drawAll, showRow } from "./chart.js";

const MARGIN_S = 10 * 86400;

function drawMatured(figure) {
  draw(figure, ({ day, error, expected }, uPlot) => ({
    x: figure.dataset.x,
    y: figure.dataset.y,
    xAxis: { space: 90, values: (u, days) => days.map((seconds) => new Date(seconds * 1000).toISOString().slice(0, 10)) },
    data: [day, error, expected],
    options: {
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: {
        x: { time: true, range: [day[0] - MARGIN_S, day.at(-1) + MARGIN_S] },
        y: { range: [0, Math.max(...error, ...expected) * 1.2] },
      },
      hooks: { setCursor: [showRow(figure)] },
      series: [
        {},
        { stroke: colour("road"), width: 2, points: { show: true, size: 9, fill: colour("road") } },
        { stroke: colour("second"), width: 2, points: { show: day.length === 1 } },
      ],
    },
  }));
}

// Points or bars over the first column of a table; dashed, what to compare with. A point shows its row of the table.
function drawBins(figure) {
  const table = figure.querySelector("table");
  const labels = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const bars = figure.dataset.bars !== undefined;
  draw(figure, ({ x, y, target }, uPlot) => {
    const isNamed = figure.dataset.named !== undefined; // choices, and bins of unequal width, stand side by side
    const beside = target ?? (figure.dataset.diagonal === undefined ? x.map(() => 0) : x);
    const low = Math.min(0, ...y);
    const high = Math.max(...y, ...beside);
    return {
      x: figure.dataset.x,
      y: figure.dataset.y,
      xAxis: isNamed ? { space: 60, values: (u, splits) => splits.map((at) => labels[at] ?? "") } : {},
      data: [x, y, beside],
      options: {
        scales: { x: { time: false, range: (u, from, to) => (isNamed ? [-0.6, x.length - 0.4] : [from - (to - from) / 20, to + (to - from) / 20]) }, y: { range: [low * 1.1, high * 1.1 || 1] } },
        series: [
          {},
          bars
            ? { stroke: colour("road"), fill: colour("band"), paths: uPlot.paths.bars({ size: [0.8, 60] }), points: { show: false } }
            : { stroke: colour("road"), width: 2, points: { show: true, size: 8, fill: colour("road") } },
          { stroke: colour("second"), width: 1.5, dash: [5, 5], points: { show: false } },
        ],
        hooks: { setCursor: [showRow(figure)] },
      },
    };
  });
}

drawAll({ bins: drawBins, matured: drawMatured });
