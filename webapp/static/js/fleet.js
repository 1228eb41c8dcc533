// The fleet's scatter plot: forecast and bookings of each car, and the means of groups.
import { alpha, colour, draw, drawAll } from "./chart.js";

const REACH_PX = 15;

// Returns the row of the dot nearest to the pointer; null where none is near.
function dotAt(u) {
  const { left, top } = u.cursor;
  const [xs, outcomes] = u.data;
  let nearest = null;
  let reach = REACH_PX;
  xs.forEach((x, i) => {
    if (outcomes[i] === null) return;
    const away = Math.hypot(u.valToPos(x, "x") - left, u.valToPos(outcomes[i], "y") - top);
    if (away <= reach) [nearest, reach] = [i, away];
  });
  return nearest;
}

function drawScatter(figure) {
  const readout = figure.querySelector(".readout");
  const hint = readout.textContent;
  const load = async () => {
    const response = await fetch(figure.dataset.points, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.statusText);
    return response.json();
  };
  draw(figure, ({ expected, real }, uPlot, { forecast, outcome, vehicle_id: ids }) => {
    const top = Math.ceil(Math.max(...forecast, ...outcome) / 5) * 5;
    const right = Math.ceil(Math.max(...forecast) + 0.5);
    // One ascending x for all series: the dots, the diagonal's ends, and the groups' means.
    const rows = [
      ...forecast.map((x, i) => [x, outcome[i], null, null, ids[i]]),
      ...expected.map((x, i) => [x, null, null, real[i]]),
      [0, null, 0, null],
      [right, null, right, null],
    ].sort((a, b) => a[0] - b[0]);
    const data = [0, 1, 2, 3].map((column) => rows.map((row) => row[column]));
    return {
      x: "Forecast bookings",
      y: "Actual bookings",
      data,
      options: {
        scales: { x: { time: false, range: [0, right] }, y: { range: [0, top] } },
        series: [
          {},
          { stroke: alpha("road", 0.5), fill: alpha("road", 0.35), paths: () => null, points: { show: true, size: 6, width: 1, fill: alpha("road", 0.35) } },
          { stroke: colour("edge"), width: 1.5, dash: [5, 5], spanGaps: true, points: { show: false } },
          { stroke: colour("ink"), fill: colour("plate"), paths: () => null, points: { show: true, size: 13, width: 2, fill: colour("plate") } },
        ],
        cursor: {
          x: false,
          y: false,
          dataIdx: (u, series, hovered) => (series === 0 ? hovered : series === 1 ? dotAt(u) : null),
          points: { size: 14, width: 2, fill: "transparent", stroke: colour("ink") },
        },
        hooks: {
          setCursor: [(u) => {
            const i = u.cursor.idx === null ? null : u.cursor.idxs[1];
            readout.textContent = i === null ? hint : `Car ${rows[i][4]}: forecast ${data[0][i].toFixed(1)}, booked ${data[1][i]}`;
          }],
        },
      },
    };
  }, load);
}

drawAll({ scatter: drawScatter });
