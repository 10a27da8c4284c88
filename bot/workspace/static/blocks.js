// Block Kit as elements. A block that this page does not know is shown as its text in a quiet box, never dropped.
// `where` says what the blocks belong to and who hears of a click: {act(payload), files, scope, kept?, fields?}.

import { h } from "./dom.js";
import { lightbox } from "./notices.js";
import { control } from "./controls.js";
import { field } from "./fields.js";
import { markdown } from "./markdown.js";
import { richText } from "./richtext.js";
import { table } from "./table.js";
import { chart } from "./chart.js";
import { emojiAt } from "./emoji.js";
import { plain, safeUrl, textOf } from "./text.js";
import { state } from "./state.js";

export function blocks(list, where) {
  return (list ?? []).map((block) => (RENDER[block.type] ?? unknown)(block, where));
}

const RENDER = {
  section, context, actions, image, plan, input: field, table, data_table: table, data_visualization: chart,
  header: (block) => h("h3", { class: "b-header" }, textOf(block.text)),
  divider: () => h("hr", { class: "b-divider" }),
  markdown: (block) => h("div", { class: "rich" }, markdown(block.text)),
  rich_text: (block) => h("div", { class: "rich" }, richText(block)),
  context_actions: (block, where) => h("div", { class: "b-context-actions" }, (block.elements ?? []).map((element) => control(element, block, where))),
  task_card: (block) => h("ol", { class: "b-plan" }, task(block)),
  alert: (block) => h("div", { class: `b-alert is-${block.level ?? "default"}`, role: "note" }, textOf(block.text)),
  file: (block) => h("div", { class: "b-unknown" }, block.external_id ?? "File"),
};

function section(block, where) {
  const body = h("div", { class: "b-section-body" },
    block.text ? h("div", { class: "rich" }, textOf(block.text)) : null,
    block.fields?.length ? h("div", { class: "b-fields" }, block.fields.map((each) => h("div", { class: "rich" }, textOf(each)))) : null);
  return h("div", { class: "b-section" }, body, block.accessory ? h("div", { class: "b-accessory" }, accessory(block.accessory, block, where)) : null);
}

function accessory(element, block, where) {
  return element.type === "image" ? picture(element, where, "b-thumb") : control(element, block, where);
}

function context(block, where) {
  return h("div", { class: "b-context" }, (block.elements ?? []).map((element) =>
    element.type === "image" ? picture(element, where, "b-context-image") : h("span", { class: "rich" }, textOf(element))));
}

function actions(block, where) {
  return h("div", { class: "b-actions" }, (block.elements ?? []).map((element) => control(element, block, where)));
}

function image(block, where) {
  return h("figure", { class: "b-image" },
    block.title ? h("figcaption", {}, plain(block.title.text)) : null, picture(block, where, "b-picture"));
}

/** A picture by address or by an uploaded file's id; a click shows it large. */
function picture(element, where, name) {
  const file = element.slack_file && [...(where.files ?? []), ...knownFiles()].find((each) => each.id === element.slack_file.id);
  const url = local(element.image_url ?? file?.url ?? element.slack_file?.url ?? (element.slack_file?.id ? `/files/${encodeURIComponent(element.slack_file.id)}/picture` : null));
  const alt = element.alt_text ?? "";
  if (!url) return h("span", { class: "b-unknown" }, alt || "Picture");
  return h("button", { type: "button", class: `picture ${name}`, "aria-label": `Enlarge: ${alt || "picture"}`, on: { click: () => lightbox(url, alt) } },
    h("img", { src: url, alt, loading: "lazy" }));
}

function knownFiles() {
  return [...state.messages.values()].flatMap((channel) => [...channel.values()].flatMap((message) => message.files ?? []));
}

/** An address as this page may load it: one of its own stays relative to the page, so that localhost and 127.0.0.1 both work. */
export function local(url) {
  if (!url) return null;
  if (url.startsWith("/") && !url.startsWith("//")) return url;
  const safe = safeUrl(url);
  if (!safe || safe.startsWith("mailto:")) return null;
  const { hostname, port, pathname, search } = new URL(safe);
  const own = ["localhost", "127.0.0.1"].includes(hostname) && port === location.port;
  return own ? pathname + search : safe;
}

function plan(block) {
  return h("section", { class: "b-plan-box", "aria-label": block.title ?? "Plan" },
    h("div", { class: "b-plan-title" }, plain(block.title)), h("ol", { class: "b-plan" }, (block.tasks ?? []).map(task)));
}

const STATE_WORDS = { pending: "to do", in_progress: "under way", complete: "done", error: "failed" };

function task(card) {
  const status = card.status in STATE_WORDS ? card.status : "pending";
  return h("li", { class: `b-task is-${status}` },
    h("span", { class: "b-task-mark", role: "img", "aria-label": STATE_WORDS[status] }),
    h("div", {}, h("div", { class: "b-task-title" }, plain(card.title)),
      card.details ? h("div", { class: "b-task-more rich" }, richText(card.details)) : null,
      card.output ? h("div", { class: "b-task-more rich" }, richText(card.output)) : null));
}

function unknown(block) {
  return h("div", { class: "b-unknown", title: `Block: ${block.type}` }, wordsIn(block) || `(${block.type})`);
}

/** Every text in a block that is not known, joined. */
function wordsIn(value) {
  if (Array.isArray(value)) return value.map(wordsIn).filter(Boolean).join(" ");
  if (value === null || typeof value !== "object") return "";
  return Object.entries(value).map(([key, inner]) =>
    typeof inner === "string" ? (["text", "title", "alt_text", "caption"].includes(key) ? inner : "") : wordsIn(inner)).filter(Boolean).join(" ");
}

/** Whether a message is nothing but one to three emoji, which are then shown large. */
export function onlyEmoji(text) {
  let rest = (text ?? "").trim();
  let count = 0;
  while (rest && count < 4) {
    const named = /^:[a-z0-9_+-]+(?:::skin-tone-[2-6])?:\s*/.exec(rest);
    const found = named ? named[0].length : emojiAt(rest)?.length;
    if (!found) return false;
    rest = rest.slice(found).trimStart();
    count++;
  }
  return count > 0 && count < 4 && !rest;
}
