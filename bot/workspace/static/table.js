// The table and data_table blocks: a real table with a head, numbers to the right, sorted by a click on a head.

import { h } from "./dom.js";
import { richText } from "./richtext.js";
import { plain } from "./text.js";

export function table(block) {
  const [head, ...body] = block.rows ?? [];
  if (!head) return h("div", { class: "b-unknown" }, block.caption ?? "Empty table");
  const right = head.map((_, column) => block.column_settings?.[column]?.align === "right" || numeric(body, column));
  const shape = { right, center: head.map((_, column) => block.column_settings?.[column]?.align === "center"), header: block.row_header_column_index ?? 0 };
  const page = block.type === "data_table" ? block.page_size ?? body.length : body.length;
  const tbody = h("tbody", {}, rowsOf(body, shape));
  const node = h("table", {}, block.caption ? h("caption", {}, plain(block.caption)) : null,
    h("thead", {}, h("tr", {}, head.map((cell, column) => headCell(cell, column, { body, shape, tbody, sortable: block.type === "data_table" })))), tbody);
  const box = h("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": block.caption ?? "Table" }, node);
  return body.length > page ? [box, unfold(tbody, page, body.length)] : box;
}

function rowsOf(body, shape) {
  return body.map((row) => h("tr", {}, row.map((cell, column) => h(column === shape.header ? "th" : "td", { class: align(shape, column), scope: column === shape.header ? "row" : null }, content(cell)))));
}

const align = (shape, column) => (shape.right[column] ? "to-right" : shape.center[column] ? "to-center" : null);

function headCell(cell, column, { body, shape, tbody, sortable }) {
  if (!sortable) return h("th", { scope: "col", class: align(shape, column) }, content(cell));
  const node = h("th", { scope: "col", class: align(shape, column) }, h("button", { type: "button", class: "sort", on: { click: () => {
    const down = node.getAttribute("aria-sort") === "ascending";
    for (const each of node.parentElement.children) each.removeAttribute("aria-sort");
    node.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sorted = [...body].sort((a, b) => compare(words(a[column]), words(b[column])) * (down ? -1 : 1));
    const shown = [...tbody.children].map((row) => row.hidden);
    tbody.replaceChildren(...rowsOf(sorted, shape));
    [...tbody.children].forEach((row, at) => { row.hidden = shown[at]; });
  } } }, content(cell)));
  return node;
}

function unfold(tbody, page, total) {
  [...tbody.children].forEach((row, at) => { row.hidden = at >= page; });
  const node = h("button", { type: "button", class: "link-button", on: { click: () => {
    for (const row of tbody.children) row.hidden = false;
    node.remove();
  } } }, `Show all ${total} rows`);
  return node;
}

function content(cell) {
  if (cell?.type === "rich_text") return richText(cell);
  return plain(words(cell));
}

function words(cell) {
  if (cell?.type === "rich_text") return (cell.elements ?? []).flatMap((part) => part.elements ?? []).map((each) => each.text ?? "").join("");
  return String(cell?.text ?? cell?.value ?? "");
}

const number = (text) => Number(text.replace(/[%,\s]/g, "").replace("−", "-").replace(/^\+/, ""));
const numeric = (body, column) => body.length > 0 && body.every((row) => { const text = words(row[column]).trim(); return text === "" || text === "–" || text === "—" || Number.isFinite(number(text)); }) && body.some((row) => words(row[column]).trim());

function compare(a, b) {
  const [x, y] = [number(a), number(b)];
  return Number.isFinite(x) && Number.isFinite(y) ? x - y : a.localeCompare(b);
}
