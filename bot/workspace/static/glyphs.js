// Our own drawings of the emoji that the product leans on, so that a rating looks the same on every machine,
// with a colour emoji font or without. Knows shapes only.

import { s } from "./dom.js";

const SKIN = { 1: ["#ffc93c", "#d99a1c"], 2: ["#f9dcc0", "#d8ab83"], 3: ["#e6bf94", "#bf9060"], 4: ["#c6946a", "#9c6c45"], 5: ["#9b6a43", "#744a2b"], 6: ["#5f4232", "#3f2a1e"] };
const HAND = "M8 11.4 11.4 4.3c.5-1.1 1.1-1.7 2-1.7 1.5 0 2.4 1.2 2.2 2.7l-.6 4.2h4.5c1.5 0 2.5 1.2 2.2 2.6l-1.5 6.5c-.3 1.4-1.4 2.4-2.8 2.4h-7c-1 0-1.8-.3-2.4-.9z";

const p = (d, fill, more = {}) => s("path", { d, fill, ...more });
const line = (d, stroke, width = 2) => p(d, "none", { stroke, "stroke-width": width, "stroke-linecap": "round", "stroke-linejoin": "round" });
const dot = (cx, cy, r, fill) => s("circle", { cx, cy, r, fill });
const box = (fill) => s("rect", { x: 2, y: 2, width: 20, height: 20, rx: 4.5, fill });
const face = (...parts) => [dot(12, 12, 10, "#ffc93c"), ...parts];

function thumb(tone) {
  const [fill, edge] = SKIN[tone];
  return [s("rect", { x: 2, y: 11, width: 5, height: 10.3, rx: 1.5, fill: "#3f7fb5" }),
    p(HAND, fill, { stroke: edge, "stroke-width": 0.9, "stroke-linejoin": "round" }),
    line("M16 12.9h4.3M15.7 16h4M15.3 19h3.4", edge, 0.9)];
}

function palm(tone) {
  const [fill, edge] = SKIN[tone];
  return [p("M6.2 12V6.3a1.4 1.4 0 0 1 2.8 0V4.4a1.4 1.4 0 0 1 2.9 0v-.8a1.4 1.4 0 0 1 2.9 0v1.8a1.4 1.4 0 0 1 2.8 0v6.8l1-1.4c.8-1.1 2.3-.4 1.9.9l-2 6.1c-1 3-3 4.4-6.2 4.4-4 0-6.1-2.4-6.1-6.4z", fill, { stroke: edge, "stroke-width": 0.9 }),
    line("M9 6v5M11.9 5v6M14.8 5.5V11", edge, 0.9)];
}

const DRAWN = {
  "+1": thumb,
  "-1": (tone) => [s("g", { transform: "matrix(1 0 0 -1 0 24)" }, ...thumb(tone))],
  raised_hand: palm,
  wave: (tone) => [s("g", { transform: "rotate(-18 12 12)" }, ...palm(tone)), line("M2.5 8.5c.4-2 1.5-3.6 3-4.6M21.5 17c-.6 1.8-1.6 3.2-3 4.2", "#8fa3ab", 1.3)],
  white_check_mark: () => [box("#2f9e5b"), line("m6.8 12.6 3.5 3.4 7-7.8", "#fff", 2.6)],
  x: () => [line("M5 5l14 14M19 5 5 19", "#d6423b", 3.8)],
  heart: () => [p("M12 21C5.5 16.3 2.5 12.8 2.5 8.7 2.5 5.7 4.8 3.5 7.5 3.5c1.9 0 3.5 1 4.5 2.7 1-1.7 2.6-2.7 4.5-2.7 2.7 0 5 2.2 5 5.2 0 4.1-3 7.6-9.5 12.3z", "#dd3f4e")],
  eyes: () => [7, 17].flatMap((x) => [s("ellipse", { cx: x, cy: 12, rx: 4.6, ry: 7.2, fill: "#fff", stroke: "#9aa8ad", "stroke-width": 1 }), s("ellipse", { cx: x - 1.4, cy: 12.6, rx: 2.1, ry: 3.2, fill: "#23292c" })]),
  tada: () => [p("M3 21.5 8 9l7.2 7.2z", "#f2b632"), line("M10 20.5 5.5 16M14 16.5 7.5 10.2", "#c98a12", 1.3), dot(17.5, 4.5, 1.4, "#dd3f4e"), dot(20.5, 12.5, 1.3, "#3f7fb5"), dot(12, 3.5, 1.2, "#2f9e5b"), line("M14.5 10.5c.5-2.6 2.3-4.2 5-4.5M13 8c.8-1.2.8-2.5.2-3.7M16.5 13.5c1.3-.8 2.6-.8 3.7-.3", "#8a63c9", 1.5)],
  hourglass_flowing_sand: () => [p("M6 3.5h12c0 4.5-2.3 6.5-4.3 8.5 2 2 4.3 4 4.3 8.5H6c0-4.5 2.3-6.5 4.3-8.5C8.3 10 6 8 6 3.5z", "#d7e6ee"), p("M8 7.3h8c-.8 1.9-2.3 3-4 4.7-1.7-1.7-3.2-2.8-4-4.7zM7.5 20c.3-2.6 2-4 4.5-4.5 2.5.5 4.2 1.9 4.5 4.5z", "#f2b632"), line("M5.5 3h13M5.5 21h13", "#9a6b45", 2)],
  warning: () => [p("M12 2.6 22.3 20.5H1.7z", "#f6b92b", { stroke: "#f6b92b", "stroke-width": 2, "stroke-linejoin": "round" }), line("M12 9v5.5M12 17.8v.1", "#33291a", 2.3)],
  robot_face: () => [s("rect", { x: 3.5, y: 7, width: 17, height: 13.5, rx: 3.5, fill: "#9db3bd" }), line("M12 6.5V3.8", "#6f8792", 1.6), dot(12, 3.2, 1.5, "#dd3f4e"), dot(8.5, 12.3, 1.9, "#fff"), dot(15.5, 12.3, 1.9, "#fff"), dot(8.5, 12.3, 0.9, "#22343c"), dot(15.5, 12.3, 0.9, "#22343c"), line("M8.5 17h7", "#4c626c", 1.5)],
  sparkles: () => [p("M10 5c.8 4.6 2.4 6.2 7 7-4.6.8-6.2 2.4-7 7-.8-4.6-2.4-6.2-7-7 4.6-.8 6.2-2.4 7-7z", "#f2b632"), p("M18.5 2c.3 2 1 2.7 3 3-2 .3-2.7 1-3 3-.3-2-1-2.7-3-3 2-.3 2.7-1 3-3zM18.5 16c.3 2 1 2.7 3 3-2 .3-2.7 1-3 3-.3-2-1-2.7-3-3 2-.3 2.7-1 3-3z", "#f2b632")],
  rocket: () => [p("M4.5 13.5 8 9.5l3 .5M10.5 19.5l4-3.5-.5-3", "#d6423b"), p("M20.5 3.5c-6 0-10 3-12 8.5l3.5 3.5c5.5-2 8.5-6 8.5-12z", "#e6edf0", { stroke: "#9db3bd", "stroke-width": 0.9 }), dot(15.2, 8.8, 1.9, "#3f7fb5"), p("M7.5 13.5 10.5 16.5C9 18.5 6.5 19.5 4 20c.5-2.5 1.5-5 3.5-6.5z", "#f2a12b")],
  memo: () => [s("rect", { x: 4, y: 2.5, width: 14, height: 19, rx: 2, fill: "#eef3f5", stroke: "#a9bac1", "stroke-width": 1 }), line("M7.5 7.5h7M7.5 11h7M7.5 14.5h3.5", "#8fa3ab", 1.3), line("M20.5 9.5 13 18.5", "#f2b632", 2.6), dot(12.5, 19.2, 1, "#3a3f42")],
  arrows_counterclockwise: () => [box("#4a86b8"), line("M7 11.5a5 5 0 0 1 9-2.2M17 12.5a5 5 0 0 1-9 2.2M16.3 6.3v3.2h-3.2M7.7 17.7v-3.2h3.2", "#fff", 1.9)],
  mag: () => [s("circle", { cx: 10, cy: 10, r: 6.3, fill: "#cfe3ee", stroke: "#5d7783", "stroke-width": 2 }), line("m15 15 6 6", "#5d4a3a", 3)],
  no_entry: () => [dot(12, 12, 10, "#d6423b"), s("rect", { x: 6, y: 10.2, width: 12, height: 3.6, rx: 1, fill: "#fff" })],
  large_green_circle: () => [dot(12, 12, 9.5, "#2f9e5b")],
  large_yellow_circle: () => [dot(12, 12, 9.5, "#f2b632")],
  red_circle: () => [dot(12, 12, 9.5, "#d6423b")],
  white_circle: () => [s("circle", { cx: 12, cy: 12, r: 9, fill: "#eef2f3", stroke: "#b4c2c8", "stroke-width": 1 })],
  bulb: () => [p("M12 2.5a7 7 0 0 0-4.3 12.6c.8.7 1.3 1.5 1.3 2.4h6c0-.9.5-1.7 1.3-2.4A7 7 0 0 0 12 2.5z", "#f7c948"), line("M9.5 19.5h5M10.5 22h3", "#8fa3ab", 1.8)],
  chart_with_upwards_trend: () => [s("rect", { x: 2.5, y: 2.5, width: 19, height: 19, rx: 2.5, fill: "#eef3f5", stroke: "#b4c2c8", "stroke-width": 1 }), line("M5 17l5-5 3 3 6-8", "#d6423b", 2)],
  lock: () => [line("M7.5 11V7.5a4.5 4.5 0 0 1 9 0V11", "#8fa3ab", 2.2), s("rect", { x: 4.5, y: 10.5, width: 15, height: 11, rx: 2.5, fill: "#f2b632" }), dot(12, 16, 1.7, "#8a6212")],
  speech_balloon: () => [p("M12 3c5.5 0 10 3.4 10 7.7s-4.5 7.7-10 7.7c-1 0-2-.1-2.9-.3L4 21l1-4.5c-1.9-1.4-3-3.5-3-5.8C2 6.4 6.5 3 12 3z", "#dfe9ee", { stroke: "#a9bac1", "stroke-width": 1 }), dot(7.5, 10.8, 1.3, "#6f8792"), dot(12, 10.8, 1.3, "#6f8792"), dot(16.5, 10.8, 1.3, "#6f8792")],
  star: () => [p("m12 2.5 2.9 6.1 6.6.9-4.8 4.6 1.2 6.7L12 17.5l-5.9 3.3 1.2-6.7L2.5 9.5l6.6-.9z", "#f2b632")],
  slightly_smiling_face: () => face(dot(8.5, 10, 1.4, "#4a3a12"), dot(15.5, 10, 1.4, "#4a3a12"), line("M7.5 14.5c1.1 1.6 2.7 2.5 4.5 2.5s3.4-.9 4.5-2.5", "#4a3a12", 1.6)),
  smile: () => face(line("M6.5 10.5c.8-1.5 2.7-1.5 3.5 0M14 10.5c.8-1.5 2.7-1.5 3.5 0", "#4a3a12", 1.6), p("M7 13.5h10c-.4 3-2.3 4.7-5 4.7s-4.6-1.7-5-4.7z", "#4a3a12")),
  cry: () => face(dot(8.5, 10, 1.4, "#4a3a12"), dot(15.5, 10, 1.4, "#4a3a12"), line("M8 17c1-1.3 2.4-2 4-2s3 .7 4 2", "#4a3a12", 1.6), p("M7.5 12.5c1.5 2 1.5 4 0 4.3-1.6-.3-1.5-2.3 0-4.3z", "#4a90c9")),
  thinking_face: () => face(dot(9, 9.5, 1.3, "#4a3a12"), dot(15.5, 9.5, 1.3, "#4a3a12"), line("M7.5 6.8c.8-.7 2-.8 3-.3M14.5 15h-4", "#4a3a12", 1.5), p("M5.5 22c-.8-3 .3-5.6 2.5-6.2l3.5-.3c1.2 0 1.2 1.7.1 1.8l-2 .3c3 .4 2.2 4.4-.6 4.4z", "#e3a620")),
};

export function isDrawn(name) {
  return name in DRAWN;
}

/** The drawing of an emoji as an inline image; tone is 1 (none) to 6. */
export function glyph(name, tone, label) {
  return s("svg", { class: "emoji", viewBox: "0 0 24 24", role: "img", "aria-label": label }, ...DRAWN[name](tone));
}
