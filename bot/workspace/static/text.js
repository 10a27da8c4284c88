// Slack's mrkdwn as elements: what a message says, never what it could do. Knows names, knows no server.
// Text enters as text nodes only; a link leaves only as http, https or mailto.

import { h } from "./dom.js";
import { emoji, emojiAt, isEmoji } from "./emoji.js";
import { nameOf, state } from "./state.js";
import { go } from "./place.js";

const MRKDWN = [["*", "strong"], ["_", "em"], ["~", "s"]];
const VERBATIM = [...MRKDWN]; // the same marks, but a bare address stays text: what the app asks for with verbatim
export const MARKDOWN = [["**", "strong"], ["__", "strong"], ["~~", "s"], ["*", "em"], ["_", "em"]];
const DEEPEST = 8;

/** The text of a message: fences, quotes, lists and lines, each with its inline marks. */
export function mrkdwn(text, styles = MRKDWN) {
  return String(text ?? "").split(/```/).flatMap((part, at, all) => {
    const fenced = at % 2 === 1 && at < all.length - 1;
    if (fenced) return [fence(part.replace(/^\n/, "").replace(/\n$/, ""))];
    const open = at % 2 === 1 ? "```" + part : part;
    const lines = open.replace(at > 0 ? /^\n/ : /^$/, "").replace(at < all.length - 1 ? /\n$/ : /$^/, "");
    return lines ? blocksOf(lines.split("\n"), styles) : [];
  });
}

/** A preformatted box with text that stays as it is. */
export function fence(text) {
  return h("pre", { class: "fence" }, h("code", {}, unescaped(text)));
}

const QUOTE = /^(?:&gt;|>)(?!(?:&gt;|>){2}) ?/;
const REST_QUOTE = /^(?:&gt;|>){3} ?/;
const ITEM = /^(\s*)(?:([•◦▪‣-])|(\d{1,3})[.)])\s+(?=\S)/;

function blocksOf(lines, styles, quoted = false) {
  const out = [];
  for (let i = 0; i < lines.length;) {
    const kind = kindOf(lines[i], quoted);
    let end = i + 1;
    while (end < lines.length && (kind === "rest" || kindOf(lines[end], quoted) === kind)) end++;
    const part = kind === "lines" ? trimmed(lines.slice(i, end)) : lines.slice(i, end);
    if (part.length) out.push(block(kind, part, styles));
    i = end;
  }
  return out;
}

/** Without the blank lines at both ends: the space between blocks says it. */
function trimmed(lines) {
  const filled = lines.map((line) => Boolean(line.trim()));
  return lines.slice(Math.max(filled.indexOf(true), 0), filled.lastIndexOf(true) + 1);
}

function kindOf(line, quoted) {
  if (!quoted && REST_QUOTE.test(line)) return "rest";
  if (!quoted && QUOTE.test(line)) return "quote";
  const item = ITEM.exec(line);
  return item ? (item[3] ? "ol" : "ul") : "lines";
}

function block(kind, lines, styles) {
  if (kind === "quote" || kind === "rest") return h("blockquote", {}, blocksOf(lines.map((line) => line.replace(kind === "rest" ? REST_QUOTE : QUOTE, "")), styles, true));
  if (kind === "lines") return h("p", {}, withBreaks(lines.map((line) => inline(line, styles))));
  const start = kind === "ol" ? ITEM.exec(lines[0])[3] : null;
  return h(kind, { start }, lines.map((line) => {
    const [, indent] = ITEM.exec(line);
    return h("li", { class: indent.length > 1 ? "deeper" : null }, inline(line.replace(ITEM, ""), styles));
  }));
}

function withBreaks(lines) {
  return lines.flatMap((nodes, at) => (at ? [h("br"), ...nodes] : nodes));
}

/** One line of text with its marks as nodes. `styles` are the dialect: mrkdwn's, or Markdown's. */
export function inline(text, styles = MRKDWN, depth = 0) {
  const out = [];
  let plain = "";
  const flush = () => { if (plain) out.push(unescaped(plain)); plain = ""; };
  for (let i = 0; i < text.length;) {
    const found = atomAt(text, i, styles) ?? (depth < DEEPEST ? styleAt(text, i, styles, depth) : null);
    if (found) {
      flush();
      out.push(...[found.nodes].flat());
      i += found.length;
    } else plain += text[i++];
  }
  flush();
  return out;
}

const ANGLE = /^<([^<>\n]+)>/;
const BARE = /^https?:\/\/[^\s<>`"|]+/;
const NAMED = /^:([a-z0-9_+'-]+(?:::skin-tone-[2-6])?):/;
const MD_LINK = /^(!?)\[([^\][\n]*)\]\(\s*<?([^\s()<>]+(?:\([^\s()]*\)[^\s()<>]*)?)>?(?:\s+"[^"\n]*")?\s*\)/;
const ESCAPED = /^\\([\\`*_{}[\]()#+\-.!~|<>])/;

function atomAt(text, i, styles) {
  const rest = text.slice(i, i + 3000);
  const char = rest[0];
  let m;
  if (styles === MARKDOWN && char === "\\" && (m = ESCAPED.exec(rest))) return { nodes: m[1], length: 2 };
  if (char === "`") return codeAt(text, i);
  if (char === "<" && (m = ANGLE.exec(rest))) return { nodes: angle(m[1]), length: m[0].length };
  if (styles === MARKDOWN && (char === "[" || char === "!") && (m = MD_LINK.exec(rest))) return { nodes: anchor(m[3], inline(m[2] || m[3], styles, 1)), length: m[0].length };
  if (char === "h" && styles !== VERBATIM && !/\w/.test(text[i - 1] ?? "") && (m = BARE.exec(rest))) {
    const url = m[0].replace(/[.,;:!?)\]'*_~]+$/, "");
    return { nodes: anchor(unescaped(url), unescaped(url)), length: url.length };
  }
  if (char === ":" && (m = NAMED.exec(rest)) && isEmoji(m[1])) return { nodes: emoji(m[1]), length: m[0].length };
  if (char > "\u2000" && (m = emojiAt(rest))) return { nodes: emoji(m.full), length: m.length };
  return null;
}

/** Code between two equal runs of ticks on one line; a run without its like is text. */
function codeAt(text, i) {
  const ticks = /^`+/.exec(text.slice(i))[0];
  const end = text.indexOf(ticks, i + ticks.length);
  const inner = text.slice(i + ticks.length, end);
  if (end < 0 || !inner || text[end + ticks.length] === "`") return { nodes: ticks, length: ticks.length };
  return { nodes: h("code", {}, unescaped(inner)), length: inner.length + 2 * ticks.length };
}

const WORD = /[\p{L}\p{N}]/u;

function styleAt(text, i, styles, depth) {
  for (const [sign, tag] of styles) {
    if (!text.startsWith(sign, i)) continue;
    const from = i + sign.length;
    const inWord = WORD.test(text[i - 1] ?? "") && (sign !== "**" || styles !== MARKDOWN);
    if (inWord || !text[from] || /\s/.test(text[from]) || text[from] === sign[0]) continue;
    const to = closing(text, from, sign, styles);
    if (to > from) return { nodes: h(tag, {}, inline(text.slice(from, to), styles, depth + 1)), length: to + sign.length - i };
  }
  return null;
}

function closing(text, from, sign, styles) {
  for (let to = text.indexOf(sign, from); to !== -1; to = text.indexOf(sign, to + 1)) {
    const before = text[to - 1];
    const after = text[to + sign.length] ?? "";
    const doubled = sign.length === 1 && styles === MARKDOWN && (after === sign || before === sign);
    if (to > from && !/\s/.test(before) && before !== "\\" && !doubled && (!WORD.test(after) || sign === "**")) return to;
  }
  return -1;
}

/** What stands between < and >: a mention, a link, a date; anything else is shown as it was written. */
function angle(inner) {
  const [target, label] = split(inner, "|");
  const rest = target.slice(1);
  if (target[0] === "@") return userChip(rest, label);
  if (target[0] === "#") return channelChip(rest, label);
  if (target[0] === "!") return special(rest, label);
  if (/^(https?:|mailto:)/i.test(target)) return anchor(unescaped(target), label ? inline(label) : unescaped(target.replace(/^mailto:/i, "")));
  return unescaped(`<${inner}>`);
}

function split(text, sign) {
  const at = text.indexOf(sign);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

export function userChip(id, label = "") {
  const name = state.users.has(id) ? nameOf(id) : label.replace(/^@/, "") || id;
  return h("span", { class: `chip ${id === state.place.user ? "chip-me" : ""}` }, "@" + unescaped(name));
}

export function channelChip(id, label = "") {
  const name = state.channels.get(id)?.name ?? (label || id);
  if (!state.channels.has(id)) return h("span", { class: "chip" }, "#" + unescaped(name));
  return h("button", { type: "button", class: "chip", on: { click: () => go({ channel: id }) } }, "#" + name);
}

function groupChip(id, label) {
  return h("span", { class: "chip", title: "A group of people" }, "@" + unescaped(state.usergroups.get(id)?.handle ?? (label.replace(/^@/, "") || id || "group")));
}

/** @here and friends ring nobody in this workspace: they are shown as what they are. */
export function broadcastChip(range) {
  return h("span", { class: "chip chip-loud", title: "Rings nobody here" }, "@" + range);
}

function special(rest, label) {
  const [kind, id, form] = rest.split("^");
  if (kind === "subteam") return groupChip(id ?? "", label);
  if (kind === "date") return h("time", { title: label }, date(Number(id), form ?? "", label));
  if (["here", "channel", "everyone"].includes(kind)) return broadcastChip(kind);
  return unescaped(label || `<!${rest}>`);
}

function date(seconds, form, otherwise) {
  if (!Number.isFinite(seconds) || !form) return otherwise;
  const at = new Date(seconds * 1000);
  const day = at.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
  const time = at.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return form.replace(/\{date(?:_\w+)?\}/g, day).replace(/\{time(?:_\w+)?\}/g, time).replace(/\{\w+\}/g, `${day} ${time}`);
}

/** A link where the address is safe to follow, else its label alone. The title shows where it really leads. */
export function anchor(href, label) {
  const safe = safeUrl(href);
  const nodes = [label].flat();
  return safe ? h("a", { href: safe, title: safe, target: "_blank", rel: "noopener noreferrer nofollow" }, nodes) : h("span", { class: "dead-link", title: "This link was not made clickable" }, nodes);
}

/** The address if it is http, https or mailto; null for javascript:, data:, relative ones and nonsense. */
export function safeUrl(href) {
  try {
    const url = new URL(String(href));
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function unescaped(text) {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

/** What a person typed, as Slack wants it: control characters escaped, @Name and #channel turned into references. */
export function outgoing(typed) {
  let text = typed.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const names = [...state.users.values()].flatMap((user) => [[user.real_name, user.id], [user.name, user.id]]).filter(([name]) => name);
  for (const [name, id] of names.sort((a, b) => b[0].length - a[0].length)) {
    text = text.replace(new RegExp(`(^|[^\\p{L}\\p{N}<])@${quoted(name)}(?![\\p{L}\\p{N}])`, "giu"), `$1<@${id}>`);
  }
  for (const { id, handle } of state.usergroups.values()) {
    text = text.replace(new RegExp(`(^|[^\\p{L}\\p{N}<])@${quoted(handle)}(?![\\p{L}\\p{N}])`, "giu"), `$1<!subteam^${id}>`);
  }
  for (const channel of state.channels.values()) {
    if (channel.name) text = text.replace(new RegExp(`(^|\\s)#${quoted(channel.name)}(?![\\w-])`, "gi"), `$1<#${channel.id}|${channel.name}>`);
  }
  return text;
}

/** A message as its author typed it: the reverse of `outgoing`. */
export function typedFrom(text) {
  return unescaped(String(text ?? "")
    .replace(/<@(\w+)(?:\|[^>]*)?>/g, (_, id) => `@${nameOf(id)}`)
    .replace(/<#(\w+)(?:\|([^>]*))?>/g, (_, id, name) => `#${state.channels.get(id)?.name ?? name ?? id}`)
    .replace(/<!subteam\^(\w+)(?:\|[^>]*)?>/g, (_, id) => `@${state.usergroups.get(id)?.handle ?? id}`));
}

const quoted = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** A Slack text object, or a plain string, as nodes. */
export function textOf(object) {
  if (!object) return [];
  if (typeof object === "string") return mrkdwn(object);
  return object.type === "mrkdwn" ? mrkdwn(object.text, object.verbatim ? VERBATIM : MRKDWN) : withBreaks(String(object.text ?? "").split("\n").map((line) => plain(line)));
}

/** Text without marks, but with emoji. */
export function plain(text) {
  return inline(String(text ?? "").replaceAll("&", "&amp;"), []);
}
