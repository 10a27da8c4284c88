// Standard Markdown (the markdown block) as elements. Blocks here, inline marks in text.js.

import { h } from "./dom.js";
import { MARKDOWN, fence, inline } from "./text.js";

const DEEPEST = 5;
const marked = (text) => inline(text, MARKDOWN);
const FENCE = /^\s*(`{3,}|~{3,})/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s*(?:>|&gt;) ?/;
const ITEM = /^(\s*)(?:([-*+•])|(\d{1,9})[.)])\s+/;
const DELIMITER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Elements of a Markdown text. An unclosed fence runs to the end, as it does while an answer streams in. */
export function markdown(text, depth = 0) {
  const lines = String(text ?? "").replaceAll("\r\n", "\n").split("\n");
  const out = [];
  for (let i = 0; i < lines.length;) {
    const [node, next] = blockAt(lines, i, depth);
    if (node) out.push(node);
    i = next;
  }
  return out;
}

function blockAt(lines, i, depth) {
  const line = lines[i];
  if (!line.trim()) return [null, i + 1];
  if (FENCE.test(line)) return fenceAt(lines, i);
  const heading = HEADING.exec(line);
  if (heading) return [h("p", { class: `md-heading md-h${Math.min(heading[1].length, 3)}`, role: "heading", "aria-level": 3 + Math.min(heading[1].length, 3) }, marked(heading[2])), i + 1];
  if (RULE.test(line)) return [h("hr"), i + 1];
  if (line.includes("|") && DELIMITER.test(lines[i + 1] ?? "") && lines[i + 1].includes("-")) return tableAt(lines, i);
  if (QUOTE.test(line) && depth < DEEPEST) return run(lines, i, (each) => QUOTE.test(each), (part) => h("blockquote", {}, markdown(part.map((each) => each.replace(QUOTE, "")).join("\n"), depth + 1)));
  if (ITEM.test(line)) return run(lines, i, (each) => ITEM.test(each) || /^\s{2,}\S/.test(each), (part) => list(part));
  return run(lines, i, (each, at) => at === i || startsNothing(each), paragraph);
}

function run(lines, from, belongs, build) {
  let end = from;
  while (end < lines.length && belongs(lines[end], end)) end++;
  return [build(lines.slice(from, end)), end];
}

const startsNothing = (line) => Boolean(line.trim()) && ![FENCE, HEADING, RULE, QUOTE, ITEM].some((start) => start.test(line));

function paragraph(lines) {
  return h("p", {}, lines.flatMap((line, at) => (at ? [h("br"), ...marked(line.trim())] : marked(line.trim()))));
}

function fenceAt(lines, i) {
  const sign = FENCE.exec(lines[i])[1];
  let end = i + 1;
  while (end < lines.length && !lines[end].trim().startsWith(sign)) end++;
  return [fence(lines.slice(i + 1, end).join("\n")), end + 1];
}

function list(lines) {
  const [, indent, , number] = ITEM.exec(lines[0]);
  const items = [];
  for (const line of lines) {
    const own = ITEM.exec(line);
    if (own && own[1].length <= indent.length) items.push([line.replace(ITEM, "")]);
    else items.at(-1).push(line);
  }
  return h(number ? "ol" : "ul", { start: number }, items.map(([first, ...rest]) => {
    const nested = rest.findIndex((line) => ITEM.test(line));
    const more = nested < 0 ? rest : rest.slice(0, nested);
    return h("li", {}, marked([first, ...more.map((line) => line.trim())].join(" ")), nested < 0 ? null : list(rest.slice(nested)));
  }));
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

function tableAt(lines, i) {
  const align = cells(lines[i + 1]).map((cell) => (/^:-+:$/.test(cell) ? "center" : /-:$/.test(cell) ? "right" : null));
  const row = (line, tag) => h("tr", {}, cells(line).map((cell, at) => h(tag, { class: align[at] ? `to-${align[at]}` : null }, marked(cell))));
  const [body, end] = run(lines, i + 2, (line) => line.includes("|"), (part) => part.map((line) => row(line, "td")));
  const table = h("table", {}, h("thead", {}, row(lines[i], "th")), h("tbody", {}, body));
  return [h("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "Table" }, table), end];
}
