// The modal that the bot opened for this person: opened, updated and closed by the server; errors stand at their field.

import { h, iconButton, mark } from "./dom.js";
import { post } from "./api.js";
import { blocks } from "./blocks.js";
import { merged, valuesOf } from "./fields.js";
import { plain } from "./text.js";
import { changed, state } from "./state.js";

/** Keeps a native dialog (which traps focus) in step with state.view. */
export function modalView() {
  let box = null;
  let view = null;
  let fields = [];

  const values = () => valuesOf(fields);

  return function show() {
    if (state.view === view) return;
    const same = box && state.view?.id === view?.id;
    const kept = state.view && merged(state.view.state?.values, same ? values() : {});
    view = state.view;
    if (!view) {
      box?.close();
      return;
    }
    if (!box) open();
    draw(kept, same);
  };

  function open() {
    const opened = box = h("dialog", { class: "dialog modal", testid: "modal", "aria-labelledby": "modal-title", on: {
      cancel: (event) => { event.preventDefault(); dismiss(); },
      close: () => { opened.remove(); if (box === opened) box = null; },
    } });
    document.body.append(opened);
    opened.showModal();
  }

  function draw(kept, same) {
    fields = [];
    const place = same ? { id: document.activeElement?.dataset?.testid, top: box.querySelector(".modal-body")?.scrollTop } : null;
    const act = (payload) => post("click", { view_id: view.id, values: values(), ...payload });
    const body = blocks(view.blocks, { act, kept, fields, scope: `v${view.id}` });
    const sends = view.submit || fields.length > 0;
    const form = h("form", { novalidate: true, on: { submit: (event) => { event.preventDefault(); submit(form); }, keydown: (event) => sendByKey(event, form) } },
      h("header", { class: "modal-head" }, h("span", { class: "avatar avatar-bot small" }, mark()), h("h2", { id: "modal-title" }, plain(view.title?.text ?? "")), iconButton("close", "Close", dismiss, { testid: "modal-close" })),
      h("div", { class: "modal-body" }, body),
      h("footer", { class: "dialog-actions" },
        h("button", { type: "button", class: "button", testid: "modal-cancel", on: { click: dismiss } }, plain(view.close?.text ?? (sends ? "Cancel" : "Close"))),
        sends ? h("button", { type: "submit", class: "button primary", testid: "modal-submit" }, plain(view.submit?.text ?? "Submit")) : null));
    box.replaceChildren(form);
    if (place) return back(form, place);
    first(form)?.focus({ preventScroll: true });
  }

  async function submit(form) {
    const button = form.querySelector("[type=submit]");
    const missing = required();
    if (showErrors(form, missing) || button.getAttribute("aria-busy")) return;
    button.setAttribute("aria-busy", "true");
    const sent = view;
    try {
      const answer = await post("submit", { view_id: view.id, values: values() });
      if (form.isConnected) showErrors(form, answer.errors ?? {});
      if (!answer.errors && state.view === sent && !answer.view) close();
    } catch { /* the toast has said it; what was written stays */ } finally {
      button.removeAttribute("aria-busy");
    }
  }

  function required() {
    const empty = (value) => !(value.value ?? value.selected_option ?? value.selected_options?.length);
    return Object.fromEntries(fields.filter((field) => !field.optional && empty(field.read())).map((field) => [field.block_id, "Please complete this field."]));
  }

  function dismiss() {
    post("close", { view_id: view.id }).catch(() => {});
    close();
  }

  function close() {
    state.view = null;
    changed();
  }
}

/** Where the person was before the form was drawn anew. */
function back(form, { id, top }) {
  form.querySelector(".modal-body").scrollTop = top ?? 0;
  const again = id && [...form.querySelectorAll(".modal-body [data-testid]")].find((node) => node.dataset.testid === id);
  (again ?? first(form))?.focus({ preventScroll: true });
}

/** What a person would fill in first. */
function first(form) {
  return form.querySelector("[autofocus]") ?? form.querySelector(".field :is(input, textarea, select)") ?? form.querySelector(".modal-body :is(input, select, button)") ?? form.querySelector("button[type=submit], footer button");
}

/** Show each error at its block; true if there is one, and the first of them gets the focus. */
function showErrors(form, errors) {
  for (const field of form.querySelectorAll(".field")) {
    const text = errors[field.dataset.block] ?? "";
    field.classList.toggle("has-error", Boolean(text));
    field.querySelector(".field-error").textContent = text;
    for (const input of field.querySelectorAll("input, textarea, select")) input.setAttribute("aria-invalid", String(Boolean(text)));
  }
  form.querySelector(".has-error :is(input, textarea, select)")?.focus();
  return Object.keys(errors).length > 0;
}

function sendByKey(event, form) {
  if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) form.requestSubmit();
}
