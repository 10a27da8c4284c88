// Block Kit's interactive elements outside of input blocks: buttons, selects, overflow, feedback. Knows no server:
// where.act(payload) carries the click.

import { h, icon, iconButton } from "./dom.js";
import { confirmed, menu } from "./notices.js";
import { choices, optionNodes } from "./fields.js";
import { plain, safeUrl } from "./text.js";

export function control(element, block, where) {
  return (RENDER[element.type] ?? unknown)(element, block, where);
}

const RENDER = { button, static_select: select, overflow, feedback_buttons: feedback, icon_button: iconAction, radio_buttons: pick, checkboxes: pick, multi_static_select: pick };

function unknown(element) {
  return h("span", { class: "b-unknown" }, element.placeholder?.text ?? element.text?.text ?? element.type);
}

/** Ask first where the app wants it, then tell the app; the control rests meanwhile. Answers whether it was sent. */
async function send(node, element, block, where, more) {
  if (element.confirm && !(await confirmed(element.confirm))) return false;
  node.setAttribute("aria-busy", "true");
  try {
    await where.act({ block_id: block.block_id, action_id: element.action_id, ...more }, element.type);
    return true;
  } catch {
    return false; // the toast has said it
  } finally {
    node.removeAttribute("aria-busy");
  }
}

/** What this person picked here before, where the app's own first choice does not hold any more. */
function keptAt(element, block, where) {
  return where.kept?.[block.block_id]?.[element.action_id];
}

function button(element, block, where) {
  const look = { primary: "primary", danger: "danger" }[element.style] ?? "";
  const url = element.url && safeUrl(element.url);
  const node = h("button", {
    type: "button", class: `button ${look}`, testid: `action-${element.action_id}`, "aria-label": element.accessibility_label,
    on: { click: () => {
      if (node.getAttribute("aria-busy")) return;
      if (url) open(url, "_blank", "noopener,noreferrer");
      send(node, element, block, where, { value: element.value });
    } },
  }, plain(element.text?.text), url ? icon("link") : null);
  return node;
}

function select(element, block, where) {
  const groups = element.option_groups ?? [{ options: element.options ?? [] }];
  const options = groups.flatMap((group) => group.options);
  const known = keptAt(element, block, where);
  const chosen = known ? known.selected_option : element.initial_option;
  let initial = options.findIndex((option) => option.value === chosen?.value);
  const node = h("select", {
    class: "select", testid: `action-${element.action_id}`, "aria-label": element.placeholder?.text ?? "Choose",
    on: { change: async () => {
      const sent = await send(node, element, block, where, { selected: options[Number(node.value)] });
      if (sent) initial = Number(node.value);
      else node.value = String(initial);
    } },
  }, h("option", { value: "-1", disabled: true, hidden: true }, element.placeholder?.text ?? "Choose…"), optionNodes(groups));
  node.value = String(initial);
  return node;
}

function overflow(element, block, where) {
  const node = iconButton("more", "More actions", () => menu(node, "More actions", (element.options ?? []).map((option) => ({
    label: option.text?.text ?? option.value, testid: `option-${option.value}`,
    act: () => send(node, element, block, where, { selected: option }),
  }))), { class: "icon-button outlined", testid: `action-${element.action_id}` });
  return node;
}

function feedback(element, block, where) {
  const thumb = (side, name, label) => {
    const data = element[side] ?? {};
    const node = iconButton(name, data.accessibility_label ?? data.text?.text ?? label, async () => {
      if (!(await send(node, element, block, where, { value: data.value }))) return;
      for (const each of node.parentElement.children) each.setAttribute("aria-pressed", String(each === node));
    }, { class: "icon-button feedback", "aria-pressed": "false", testid: `feedback-${side === "positive_button" ? "good" : "bad"}` });
    return node;
  };
  return h("span", { class: "b-feedback", role: "group", "aria-label": "Was this answer good?" },
    thumb("positive_button", "thumbUp", "Good answer"), thumb("negative_button", "thumbDown", "Bad answer"));
}

function iconAction(element, block, where) {
  const node = iconButton(element.icon === "trash" ? "trash" : "bolt", element.accessibility_label ?? element.text?.text ?? "Action",
    () => send(node, element, block, where, { value: element.value }), { testid: `action-${element.action_id}` });
  return node;
}

function pick(element, block, where) {
  const many = element.type !== "radio_buttons";
  const known = keptAt(element, block, where);
  const shown = known ? { ...element, initial_option: known.selected_option, initial_options: known.selected_options } : element;
  const node = choices(shown, `${where.scope}-${block.block_id}-${element.action_id}`, (selected) => send(node, element, block, where, { selected: many ? selected : selected[0] }));
  return node;
}
