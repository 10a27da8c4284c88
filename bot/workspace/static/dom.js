// Building the page: elements, never strings of markup. Knows no state and no server.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties and children; strings become text. `on` holds listeners, `testid` the test's handle. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "testid") node.setAttribute("data-testid", value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Make `parent` hold exactly these rows, in order. A row is {key, mark, build}: it is built anew only when its mark
 *  changed, so that a streaming answer does not disturb the rest; focus inside a rebuilt row is kept. */
export function reconcile(parent, rows) {
  const old = new Map([...parent.children].map((node) => [node.rowKey, node]));
  let place = parent.firstChild;
  for (const row of rows) {
    let node = old.get(row.key);
    old.delete(row.key);
    if (!node || node.rowMark !== row.mark) node = renewed(node, row);
    if (node === place) place = place.nextSibling;
    else {
      const replaced = node.replaces;
      parent.insertBefore(node, place);
      if (replaced) {
        if (replaced === place) place = place.nextSibling;
        restoreFocus(replaced, node);
        replaced.remove();
        node.replaces = null;
      }
    }
  }
  for (const node of old.values()) node.remove();
}

function renewed(old, row) {
  const node = row.build();
  node.rowKey = row.key;
  node.rowMark = row.mark;
  node.replaces = old ?? null;
  return node;
}

function restoreFocus(from, to) {
  if (!from.contains(document.activeElement)) return;
  const id = document.activeElement.dataset.testid;
  const again = id && [...to.querySelectorAll("[data-testid]")].find((node) => node.dataset.testid === id);
  again?.focus({ preventScroll: true });
}

const PATHS = {
  hash: "M8 3 6 17M14 3l-2 14M3.5 7.5h14M2.5 12.5h14",
  home: "M3 9.5 10 3.5l7 6V16a1 1 0 0 1-1 1h-3.5v-4.5h-5V17H4a1 1 0 0 1-1-1z",
  reply: "M17 9.5c0 3.3-3.1 6-7 6-.9 0-1.8-.1-2.6-.4L3.5 16.5l1-3A5.4 5.4 0 0 1 3 9.5c0-3.3 3.1-6 7-6s7 2.7 7 6z",
  smile: "M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0zM7 11.5c.6 1.3 1.7 2 3 2s2.4-.7 3-2M7.7 7.8v.4M12.3 7.8v.4",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  close: "M5 5l10 10M15 5 5 15",
  send: "M3.5 10 16.5 4l-4 12.5-3-5zM9.5 11.5l7-7.5",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  check: "m4.5 10.5 3.5 3.5 7.5-8",
  link: "M8.5 11.5a3 3 0 0 0 4.3 0l2.7-2.7a3 3 0 1 0-4.3-4.3l-.9 1M11.5 8.5a3 3 0 0 0-4.3 0l-2.7 2.7a3 3 0 1 0 4.3 4.3l.9-1",
  bolt: "M11 2.5 4.5 11.5H9.5L9 17.5l6.5-9h-5z",
  down: "m5 8 5 5 5-5",
  eye: "M2.5 10S5 4.8 10 4.8 17.5 10 17.5 10 15 15.2 10 15.2 2.5 10 2.5 10zM12 10a2 2 0 1 1-4 0 2 2 0 0 1 4 0z",
  file: "M5 2.5h6.5L15.5 7v10a.5.5 0 0 1-.5.5H5a.5.5 0 0 1-.5-.5V3a.5.5 0 0 1 .5-.5zM11.5 2.5V7h4",
  clock: "M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0zM10 6v4l2.5 2",
  thumbUp: "M6.5 9 9 3.6c1.2 0 2 .9 1.8 2.1L10.3 8.5h4.5a1.6 1.6 0 0 1 1.6 2l-1.2 4.9a1.7 1.7 0 0 1-1.6 1.3H6.5zM3.5 9h3v7.7h-3z",
  thumbDown: "M13.5 11 11 16.4c-1.2 0-2-.9-1.8-2.1l.5-2.8H5.2a1.6 1.6 0 0 1-1.6-2l1.2-4.9a1.7 1.7 0 0 1 1.6-1.3h7.1zM16.5 11h-3V3.3h3z",
  stop: "M6 6h8v8H6z",
  edit: "M12.5 4.5 15.5 7.5 7.5 15.5 4 16l.5-3.5z",
  trash: "M4 5.5h12M8 5.5v-2h4v2M5.5 5.5l.7 11h7.6l.7-11M8.5 8.5v5M11.5 8.5v5",
};

/** A line icon of 20 × 20, silent to screen readers: the control around it carries the name. */
export function icon(name) {
  return s("svg", { class: `icon icon-${name}`, viewBox: "0 0 20 20", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}

/** A button with an icon and a name that screen readers and tooltips give. */
export function iconButton(name, label, onClick, props = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: onClick }, ...props }, icon(name));
}

/** The mark of the workspace and of the bot: a hull that lies level. */
export function mark() {
  return s("svg", { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("path", { d: "M5 16h22c-.8 5.3-5 9-11 9S5.8 21.3 5 16Z" }),
    s("path", { d: "M15.5 5v8.5h-6zM17.5 7.5l5.5 6h-5.5z" }),
    s("path", { class: "mark-keel", d: "M14.7 26h2.6L16 29z" }));
}
