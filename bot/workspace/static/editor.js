// A message of one's own, being changed where it stands: Enter saves, Esc leaves it as it was.

import { h } from "./dom.js";
import { post } from "./api.js";
import { changed, state } from "./state.js";
import { outgoing, typedFrom } from "./text.js";

export function editor(message, where) {
  const leave = () => { state.editing = null; changed(); };
  const area = h("textarea", { class: "input", rows: 2, testid: "edit-text", "aria-label": "Change the message", value: typedFrom(message.text), on: { keydown: (event) => {
    if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); leave(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(); }
  } } });
  const save = async () => {
    const text = outgoing(area.value.trim());
    if (text && text !== message.text) await post("edit", { ...where, text }).catch(() => { throw new Error("not saved"); });
    leave();
  };
  setTimeout(() => area.focus());
  return h("div", { class: "editor" }, area, h("div", { class: "editor-actions" },
    h("button", { type: "button", class: "button", testid: "edit-cancel", on: { click: leave } }, "Cancel"),
    h("button", { type: "button", class: "button primary", testid: "edit-save", on: { click: () => save().catch(() => {}) } }, "Save")));
}
