// The what-if curve: what the model says of this car at other prices.
import { alpha, colour, draw } from "./chart.js";

// The words stand on the side away from the other mark, which would run through them, if they fit there.
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

export function drawCurve(figure) {
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
