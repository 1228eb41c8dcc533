// The champion's calibration (mean forecast and mean bookings of groups of cars), and its real errors over time.
import { colour, draw } from "./chart.js";
import { on } from "./live.js";

const MARGIN_S = 10 * 86400;

function drawCalibration(figure) {
  draw(figure, ({ expected, real }) => {
    const top = Math.ceil(Math.max(...expected, ...real) / 5) * 5;
    const rows = [...expected.map((x, i) => [x, real[i], null]), [0, null, 0], [top, null, top]].sort((a, b) => a[0] - b[0]);
    return {
      x: "Forecast reservations",
      y: "Booked",
      data: [0, 1, 2].map((column) => rows.map((row) => row[column])),
      options: {
        scales: { x: { time: false, range: [0, top] }, y: { range: [0, top] } },
        cursor: { show: false },
        series: [
          {},
          { stroke: colour("road"), width: 2, spanGaps: true, points: { show: true, size: 9, fill: colour("road") } },
          { stroke: colour("edge"), width: 1.5, dash: [5, 5], spanGaps: true, points: { show: false } },
        ],
      },
    };
  });
}

function drawMatured(figure) {
  draw(figure, ({ day, error, expected }, uPlot) => ({
    x: "Bookings through",
    y: "Mean error",
    xAxis: { space: 90, values: (u, days) => days.map((seconds) => new Date(seconds * 1000).toISOString().slice(0, 10)) },
    data: [day, error, expected],
    options: {
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: {
        x: { time: true, range: [day[0] - MARGIN_S, day.at(-1) + MARGIN_S] },
        y: { range: [0, Math.max(...error, ...expected) * 1.2] },
      },
      cursor: { show: false },
      series: [
        {},
        { stroke: colour("road"), width: 2, points: { show: true, size: 9, fill: colour("road") } },
        { stroke: colour("second"), width: 2, points: { show: day.length === 1 } },
      ],
    },
  }));
}

function drawAll(root) {
  for (const figure of root.querySelectorAll("[data-chart=matured]")) drawMatured(figure);
  for (const figure of root.querySelectorAll("[data-chart=calibration]")) drawCalibration(figure);
}

drawAll(document);
on("replaced", drawAll);
