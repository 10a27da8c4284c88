// Short words at the edge of the page, and questions that need a yes. Knows no message and no server.

import { h, iconButton } from "./dom.js";
import { textOf } from "./text.js";

const SHOWN_MS = 6000;

/** A line that goes by itself. */
export function toast(text) {
  const node = h("div", { class: "toast", testid: "toast" }, h("span", {}, text), iconButton("close", "Dismiss", () => node.remove()));
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), SHOWN_MS);
}

/** A dialog over everything; resolves when it is closed. Focus stays inside and comes back. */
function dialog(props, ...children) {
  const node = h("dialog", props, ...children);
  document.body.append(node);
  node.addEventListener("close", () => node.remove());
  node.showModal();
  return node;
}

/** Ask as Slack's confirm object says; true for yes. */
export function confirmed({ title, text, confirm, deny, style } = {}) {
  return new Promise((resolve) => {
    const done = (answer) => { resolve(answer); box.close(); };
    const box = dialog({ class: "dialog confirm", "aria-label": title?.text ?? "Are you sure?", testid: "confirm", on: { cancel: () => resolve(false) } },
      h("h2", {}, title?.text ?? "Are you sure?"), h("div", { class: "confirm-text rich" }, textOf(text)),
      h("div", { class: "dialog-actions" },
        h("button", { type: "button", class: "button", testid: "confirm-no", on: { click: () => done(false) } }, deny?.text ?? "Cancel"),
        h("button", { type: "button", class: `button ${style === "danger" ? "danger" : "primary"}`, testid: "confirm-yes", autofocus: true, on: { click: () => done(true) } }, confirm?.text ?? "Yes")));
  });
}

/** A picture, large. A click anywhere or Esc closes it. */
export function lightbox(url, alt) {
  const box = dialog({ class: "dialog lightbox", "aria-label": alt || "Picture", testid: "lightbox", on: { click: () => box.close() } },
    h("img", { src: url, alt }), h("p", {}, alt), iconButton("close", "Close", () => box.close()));
}

/** A small panel beside `anchor` that a click elsewhere or Esc closes. `build(close)` gives its content. */
export function popover(anchor, label, build, props = {}) {
  const node = h("div", { popover: "auto", class: "popover", role: "dialog", "aria-label": label, ...props });
  const close = () => node.isConnected && node.hidePopover();
  node.append(...[build(close)].flat());
  (anchor.closest("dialog") ?? document.body).append(node);
  node.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    if (node.contains(document.activeElement) || document.activeElement === document.body) anchor.focus({ preventScroll: true });
    node.remove();
  });
  addEventListener("hashchange", close, { once: true });
  node.showPopover();
  beside(node, anchor.getBoundingClientRect());
  node.querySelector("[autofocus], input, button")?.focus({ preventScroll: true });
  return close;
}

function beside(node, at) {
  const { width, height } = node.getBoundingClientRect();
  const under = at.bottom + 4 + height <= innerHeight - 8;
  node.style.setProperty("left", `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`);
  node.style.setProperty("top", `${under ? at.bottom + 4 : Math.max(8, at.top - 4 - height)}px`);
}

/** A popover with a list of things to do: [{label, icon, act, testid}]. Arrow keys move. */
export function menu(anchor, label, items) {
  popover(anchor, label, (close) => items.map((item) => h("button", {
    type: "button", class: "menu-item", role: "menuitem", testid: item.testid, on: { click: () => { close(); item.act(); } },
  }, item.icon ?? null, h("span", {}, item.label), item.hint ? h("small", {}, item.hint) : null)), {
    class: "popover menu", role: "menu", on: { keydown: moveByArrows },
  });
}

function moveByArrows(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const items = [...event.currentTarget.querySelectorAll("button")];
  items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
}
