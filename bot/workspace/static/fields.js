// The input blocks of a modal: what is shown, and what is read from them when it is submitted, in the shape of
// Slack's view.state.values. `where.fields` gathers {block_id, action_id, read} of each input.

import { h } from "./dom.js";
import { plain, textOf } from "./text.js";

/** An input block with its label, hint and the place of its error. */
export function field(block, where) {
  const element = block.element ?? {};
  const id = `${where.scope}-${block.block_id}`;
  const [node, read] = (INPUT[element.type] ?? unknown)(element, id, where.kept?.[block.block_id]?.[element.action_id]);
  where.fields?.push({ block_id: block.block_id, action_id: element.action_id, optional: block.optional, read });
  if (block.dispatch_action) dispatch(node, block, element, read, where);
  const label = plain(block.label?.text);
  const grouped = node.getAttribute("role");
  return h("div", { class: "field", "data-block": block.block_id },
    h(grouped ? "div" : "label", { class: "field-label", id: `${id}-label`, for: grouped ? null : id }, label, block.optional ? h("small", {}, " (optional)") : null),
    named(node, id), block.hint ? h("div", { class: "field-hint", id: `${id}-hint` }, textOf(block.hint)) : null,
    h("div", { class: "field-error", id: `${id}-error`, role: "alert" }));
}

/** What is read from these fields: Slack's state.values. */
export function valuesOf(fields) {
  const out = {};
  for (const field of fields) (out[field.block_id] ??= {})[field.action_id] = field.read();
  return out;
}

/** `known` values with newer ones in their place. */
export function merged(known, newer) {
  const out = { ...known };
  for (const [block, inputs] of Object.entries(newer ?? {})) out[block] = { ...out[block], ...inputs };
  return out;
}

/** Tell the app of each change, as the block asks: a text with Enter or when it is left, the rest at once. */
function dispatch(node, block, element, read, where) {
  node.addEventListener("change", () => {
    const { value, selected_option, selected_options } = read();
    where.act({ block_id: block.block_id, action_id: element.action_id, value, selected: selected_options ?? selected_option ?? undefined }, element.type).catch(() => {});
  });
}

function named(node, id) {
  node.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  if (node.getAttribute("role")) node.setAttribute("aria-labelledby", `${id}-label`);
  return node;
}

const INPUT = {
  plain_text_input: text, number_input: number, email_text_input: (element, id, kept) => text(element, id, kept, "email"),
  url_text_input: (element, id, kept) => text(element, id, kept, "url"), static_select: select, radio_buttons: radio, checkboxes: boxes, multi_static_select: boxes,
};

function text(element, id, kept, type = "text") {
  const value = (kept ? kept.value : element.initial_value) ?? "";
  const shared = { id, class: "input", placeholder: element.placeholder?.text, maxlength: element.max_length, minlength: element.min_length, autofocus: element.focus_on_load, testid: `input-${element.action_id}`, value };
  const node = element.multiline ? h("textarea", { rows: 6, ...shared }) : h("input", { type, ...shared });
  return [node, () => ({ type: element.type, value: node.value || null })];
}

function number(element, id, kept) {
  const node = h("input", {
    id, class: "input", type: "number", step: element.is_decimal_allowed ? "any" : 1, min: element.min_value, max: element.max_value,
    placeholder: element.placeholder?.text, testid: `input-${element.action_id}`, value: (kept ? kept.value : element.initial_value) ?? "",
  });
  return [node, () => ({ type: element.type, value: node.value || null })];
}

function select(element, id, kept) {
  const groups = element.option_groups ?? [{ options: element.options ?? [] }];
  const options = groups.flatMap((group) => group.options);
  const chosen = kept ? kept.selected_option : element.initial_option;
  const node = h("select", { id, class: "select", testid: `input-${element.action_id}` },
    h("option", { value: "-1" }, element.placeholder?.text ?? "Choose…"), optionNodes(groups));
  node.value = String(options.findIndex((option) => option.value === chosen?.value));
  return [node, () => ({ type: element.type, selected_option: options[Number(node.value)] ?? null })];
}

function radio(element, id, kept) {
  const node = choices(kept ? { ...element, initial_option: kept.selected_option } : element, id);
  return [node, () => ({ type: element.type, selected_option: node.selected()[0] ?? null })];
}

function boxes(element, id, kept) {
  const node = choices(kept ? { ...element, initial_options: kept.selected_options } : element, id);
  return [node, () => ({ type: element.type, selected_options: node.selected() })];
}

function unknown(element, id) {
  return [h("div", { id, class: "b-unknown" }, `This page cannot show “${element.type ?? "nothing"}”.`), () => ({ type: element.type, value: null })];
}

/** The options of a select; its value is the option's place, so that two equal values stay apart. */
export function optionNodes(groups) {
  let at = 0;
  const nodes = (group) => group.options.map((option) => h("option", { value: String(at++) }, option.text?.text ?? option.value));
  return groups.map((group) => (group.label ? h("optgroup", { label: group.label.text }, nodes(group)) : nodes(group)));
}

/** Radio buttons or checkboxes with text and description; `selected()` gives the options that are on. */
export function choices(element, id, onChange = () => {}) {
  const many = element.type !== "radio_buttons";
  const initial = many ? element.initial_options ?? [] : [element.initial_option].filter(Boolean);
  const options = element.options ?? (element.option_groups ?? []).flatMap((group) => group.options);
  const inputs = options.map((option) => h("input", {
    type: many ? "checkbox" : "radio", name: id, testid: `choice-${option.value}`,
    checked: initial.some((each) => each.value === option.value), on: { change: () => onChange(node.selected()) },
  }));
  const node = h("div", { id, class: "choices", role: many ? "group" : "radiogroup" }, inputs.map((input, at) => {
    const option = options[at];
    return h("label", { class: "choice" }, input, h("span", {}, h("span", { class: "choice-text" }, textOf(option.text)),
      option.description ? h("small", {}, textOf(option.description)) : null));
  }));
  node.selected = () => options.filter((_, at) => inputs[at].checked);
  return node;
}
