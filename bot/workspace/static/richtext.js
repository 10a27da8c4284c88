// The rich_text block: Slack's own tree of text, as elements.

import { h } from "./dom.js";
import { emoji } from "./emoji.js";
import { anchor, broadcastChip, channelChip, userChip } from "./text.js";

export function richText(block) {
  return (block?.elements ?? []).map(group);
}

function group(element) {
  const inner = () => (element.elements ?? []).flatMap((each) => (each.type?.startsWith("rich_text_") ? [group(each)] : piece(each)));
  if (element.type === "rich_text_list") {
    const items = (element.elements ?? []).map((each) => h("li", {}, each.type?.startsWith("rich_text_") ? (each.elements ?? []).flatMap(piece) : piece(each)));
    return h(element.style === "ordered" ? "ol" : "ul", { class: element.indent ? "deeper" : null, start: element.offset ? element.offset + 1 : null }, items);
  }
  if (element.type === "rich_text_quote") return h("blockquote", {}, inner());
  if (element.type === "rich_text_preformatted") return h("pre", { class: "fence" }, h("code", {}, inner()));
  return h("p", {}, inner());
}

function piece(element) {
  if (element.type === "text") return styled(lines(element.text ?? ""), element.style);
  if (element.type === "link") return styled([anchor(element.url, element.text || element.url)], element.style);
  if (element.type === "user") return [userChip(element.user_id)];
  if (element.type === "channel") return [channelChip(element.channel_id)];
  if (element.type === "usergroup") return [h("span", { class: "chip" }, "@" + element.usergroup_id)];
  if (element.type === "broadcast") return [broadcastChip(element.range)];
  if (element.type === "emoji") return [emoji(element.skin_tone ? `${element.name}::skin-tone-${element.skin_tone}` : element.name)];
  if (element.type === "date") return [new Date(element.timestamp * 1000).toLocaleString("en")];
  return element.text ? [String(element.text)] : [];
}

function lines(text) {
  return text.split("\n").flatMap((line, at) => (at ? [h("br"), line] : [line]));
}

function styled(nodes, style = {}) {
  const tags = { code: "code", strike: "s", italic: "em", bold: "strong" };
  return Object.entries(tags).reduce((inner, [name, tag]) => (style[name] ? [h(tag, {}, inner)] : inner), nodes);
}
