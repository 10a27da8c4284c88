// The data_visualization block as a drawing: bars, lines, areas and a share list for pies. Numbers are also given
// as text to screen readers.

import { h, s } from "./dom.js";
import { plain } from "./text.js";

const W = 560;
const H = 240;
const PAD = { left: 52, right: 12, top: 12, bottom: 34 };

export function chart(block) {
  const data = block.chart ?? {};
  const series = data.series ?? [{ name: block.title, data: data.segments ?? [] }];
  const labels = data.axis_config?.categories ?? [...new Set(series.flatMap((each) => (each.data ?? []).map((point) => point.label)))];
  const kind = ["line", "area", "bar"].includes(data.type) ? data.type : "bar";
  const summary = series.map((each) => `${each.name}: ${(each.data ?? []).map((point) => `${point.label} ${point.value}`).join(", ")}`).join("; ");
  return h("figure", { class: "b-chart" }, h("figcaption", {}, plain(block.title)),
    s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${block.title}. ${summary}` }, drawing(kind, series, labels)),
    series.length > 1 ? h("ul", { class: "legend" }, series.map((each, at) => h("li", { class: `hue-${at % 6}` }, each.name))) : null);
}

function drawing(kind, series, labels) {
  const values = series.flatMap((each) => (each.data ?? []).map((point) => point.value)).filter(Number.isFinite);
  const ticks = scale(kind === "line" ? Math.min(...values, 0) : Math.min(0, ...values), Math.max(...values, 0));
  const y = (value) => PAD.top + (H - PAD.top - PAD.bottom) * (1 - (value - ticks[0]) / (ticks.at(-1) - ticks[0] || 1));
  const step = (W - PAD.left - PAD.right) / Math.max(labels.length, 1);
  const x = (at) => PAD.left + step * (at + 0.5);
  const every = Math.ceil(labels.length / 9);
  return [
    ticks.map((tick) => [s("line", { class: tick === 0 ? "axis" : "grid", x1: PAD.left, x2: W - PAD.right, y1: y(tick), y2: y(tick) }), s("text", { x: PAD.left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick))]),
    labels.map((label, at) => (at % every ? null : s("text", { x: x(at), y: H - 12, "text-anchor": "middle" }, clipped(label, step * every)))),
    series.map((each, at) => (kind === "bar" ? bars(each, at, series.length, { labels, x, y, step }) : curve(each, at, { labels, x, y, kind }))),
  ];
}

function bars(each, at, count, { labels, x, y, step }) {
  const width = Math.min(46, (step * 0.7) / count);
  return (each.data ?? []).map((point) => {
    const left = x(labels.indexOf(point.label)) + width * (at - count / 2);
    const [top, foot] = [y(Math.max(point.value, 0)), y(Math.min(point.value, 0))];
    return s("rect", { class: `hue-${at % 6}`, x: left + 1, y: top, width: Math.max(width - 2, 1), height: Math.max(foot - top, 1), rx: 2 }, s("title", {}, `${each.name}, ${point.label}: ${point.value}`));
  });
}

function curve(each, at, { labels, x, y, kind }) {
  const points = (each.data ?? []).map((point) => [x(labels.indexOf(point.label)), y(point.value)]);
  if (!points.length) return [];
  const path = points.map(([left, top], index) => `${index ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`).join("");
  const closed = `${path}L${points.at(-1)[0]} ${y(0)}L${points[0][0]} ${y(0)}Z`;
  return [kind === "area" ? s("path", { class: `area hue-${at % 6}`, d: closed }) : null, s("path", { class: `curve hue-${at % 6}`, d: path }),
    points.length <= 30 ? points.map(([cx, cy]) => s("circle", { class: `hue-${at % 6}`, cx, cy, r: 3 })) : null];
}

/** Four to six round numbers that span low to high. */
function scale(low, high) {
  const span = high - low || 1;
  const raw = span / 4;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * unit).find((each) => each >= raw);
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step) || first + 1;
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

function clipped(label, room) {
  const most = Math.max(3, Math.floor(room / 6.2));
  return label.length > most ? label.slice(0, most - 1) + "…" : label;
}
