// One message: who, when, what, the reactions under it and the bar that comes up over it.

import { h, icon, iconButton, mark } from "./dom.js";
import { post } from "./api.js";
import { blocks, local, onlyEmoji } from "./blocks.js";
import { emoji, parts } from "./emoji.js";
import { confirmed, lightbox, menu, toast } from "./notices.js";
import { editor } from "./editor.js";
import { pickEmoji } from "./picker.js";
import { noteClick } from "./progress.js";
import { go, link } from "./place.js";
import { authorOf, bot, changed, dismiss, firstName, isOurBot, nameOf, repliesTo, state, statusAt } from "./state.js";
import { mrkdwn } from "./text.js";
import { ago, clock, whole } from "./time.js";

const ROLES = { customer: "Customer", agent: "Agent", admin: "Admin" };

/** A square with a person's initial in a colour of their own; the bot carries the mark. */
export function avatar(user, size = "") {
  if (isOurBot(user)) return h("span", { class: `avatar avatar-bot ${size}`, "aria-hidden": "true" }, mark());
  const hue = Math.max(0, [...state.users.keys()].indexOf(user.id)) % 6;
  const name = user.real_name || user.name || "?";
  return h("span", { class: `avatar person-${hue} ${size}`, "aria-hidden": "true" }, [...name][0].toUpperCase());
}

export function roleBadge(user) {
  return ROLES[user.role] ? h("span", { class: `badge role-${user.role}` }, ROLES[user.role]) : null;
}

/** The row of a message. `inThread`: it stands in the thread panel; `joined`: under another of the same author. */
export function messageRow(message, { channel, inThread = false, joined = false }) {
  const where = { channel, ts: message.ts };
  const author = authorOf(message);
  if (quiet(message)) return h("div", { class: "message is-note", role: "listitem", testid: `message-${message.ts}` }, h("div", { class: "message-body rich" }, mrkdwn(message.text)));
  const name = author.real_name || author.name;
  return h("article", {
    class: ["message", joined && "is-joined", message.ephemeral && "is-ephemeral", message.streaming && "is-streaming"].filter(Boolean).join(" "),
    role: "listitem", tabindex: "-1", "data-ts": message.ts, testid: `message-${message.ts}`, "aria-label": `${name}, ${clock(message.ts)}`,
  },
  message.ephemeral ? h("div", { class: "only-you" }, icon("eye"), "Only visible to you") : null,
  joined ? h("time", { class: "gutter-time", title: whole(message.ts) }, clock(message.ts)) : avatar(author),
  h("div", { class: "message-body" },
    joined ? null : h("div", { class: "byline" }, h("span", { class: "author" }, name),
      author.role === "bot" ? h("span", { class: "badge badge-app" }, "APP") : roleBadge(author),
      h("time", { title: whole(message.ts) }, clock(message.ts))),
    isEdited(message) ? editor(message, where) : content(message, where),
    (message.files ?? []).map(file),
    reactions(message, where),
    inThread ? null : replies(message, channel)),
  message.ephemeral ? iconButton("close", "Dismiss", () => { dismiss(channel, message.ts); changed(); }, { class: "icon-button dismiss" }) : bar(message, where, inThread));
}

const isEdited = (message) => state.editing === message.ts && message.user === state.me;
const quiet = (message) => ["channel_join", "channel_leave", "channel_topic", "tombstone"].includes(message.subtype);

/** What the row depends on: when it is equal, the row on the page still holds. */
export function messageMark(message, view) {
  const last = repliesTo(view.channel, message.ts).at(-1);
  return JSON.stringify([message, isEdited(message), view.joined, view.inThread ? null : [last?.ts, repliesTo(view.channel, message.ts).length, statusAt(view.channel, message.ts)]]);
}

function content(message, where) {
  const scope = `m${message.ts}`;
  const act = (payload, kind) => post("click", { ...where, ...payload }).then(() => noteClick(kind));
  const shown = message.blocks?.length
    ? blocks(message.blocks, { act, scope, files: message.files })
    : [h("div", { class: `rich ${onlyEmoji(message.text) ? "only-emoji" : ""}` }, mrkdwn(message.text))];
  const body = h("div", { class: "content" }, shown, (message.attachments ?? []).map((each) => attachment(each, act, scope)));
  if (message.streaming) tail(body).append(h("span", { class: "cursor", "aria-hidden": "true" }));
  if (message.edited) tail(body).append(h("span", { class: "edited" }, " (edited)"));
  return body;
}

function attachment(each, act, scope) {
  return h("div", { class: "attachment" }, each.pretext ? h("div", { class: "rich" }, mrkdwn(each.pretext)) : null,
    each.title ? h("strong", {}, each.title) : null, each.text ? h("div", { class: "rich" }, mrkdwn(each.text)) : null, blocks(each.blocks, { act, scope }));
}

/** The innermost last line of text, where a cursor or a mark belongs. */
function tail(body) {
  let node = body.lastElementChild;
  while (node?.lastElementChild && /^(DIV|P|UL|OL|LI|BLOCKQUOTE)$/.test(node.lastElementChild.tagName)) node = node.lastElementChild;
  return node && /^(P|LI|DIV|BLOCKQUOTE)$/.test(node.tagName) ? node : body;
}

function file(each) {
  const url = local(each.url ?? each.url_private ?? each.permalink);
  const name = each.title || each.name || "File";
  if (url && each.mimetype?.startsWith("image/")) {
    return h("figure", { class: "file-image" }, h("figcaption", {}, name), h("button", { type: "button", class: "picture", "aria-label": `Enlarge: ${name}`, on: { click: () => lightbox(url, name) } }, h("img", { src: url, alt: name, loading: "lazy" })));
  }
  const kind = (each.mimetype ?? "").split("/").pop() || "file";
  const inner = [h("span", { class: "file-icon" }, icon("file")), h("span", {}, h("strong", {}, name), h("small", {}, kind))];
  return url ? h("a", { class: "file-card", href: url, target: "_blank", rel: "noopener noreferrer" }, inner) : h("div", { class: "file-card" }, inner);
}

/** Add or take back a reaction of the person of this page. */
function toggle(message, where, name) {
  const on = !(message.reactions ?? []).some((each) => each.name === name && each.users.includes(state.me));
  return post("react", { ...where, name, on }).catch(() => {});
}

function reactions(message, where) {
  if (!message.reactions?.length) return null;
  const who = (each) => each.users.map((id) => (id === state.me ? "You" : nameOf(id))).join(", ");
  return h("div", { class: "reactions" }, message.reactions.map((each) => h("button", {
    type: "button", class: "reaction", testid: `reaction-${each.name}`, "aria-pressed": String(each.users.includes(state.me)),
    title: `${who(each)} reacted with :${each.name}:`, "aria-label": `${parts(each.name).name.replaceAll("_", " ")}, ${each.count}: ${who(each)}`,
    on: { click: () => toggle(message, where, each.name) },
  }, emoji(each.name), h("span", { class: "count" }, String(each.count ?? each.users.length)))),
  reactButton(message, where, "reaction reaction-add"));
}

function reactButton(message, where, name, testid = "react-more") {
  const node = iconButton("smile", "Add reaction", () => pickEmoji(node, (chosen) => toggle(message, where, chosen)), { class: name, testid });
  return node;
}

function replies(message, channel) {
  const given = repliesTo(channel, message.ts);
  const count = Math.max(given.length, message.reply_count ?? 0);
  const status = statusAt(channel, message.ts);
  if (!count && !status) return null;
  const open = () => go({ channel, thread: message.ts });
  const faces = [...new Map(given.map((reply) => [authorOf(reply).id, authorOf(reply)])).values()].slice(0, 4);
  return h("button", { type: "button", class: "replies", testid: `replies-${message.ts}`, on: { click: open } },
    h("span", { class: "faces" }, (status && !count ? [bot()] : faces).map((user) => avatar(user, "small"))),
    count ? h("span", { class: "replies-count" }, `${count} ${count === 1 ? "reply" : "replies"}`) : null,
    status ? h("span", { class: "replies-when is-live" }, h("span", { class: "dots" }, h("i"), h("i"), h("i")), statusText(status))
      : h("span", { class: "replies-when" }, given.length ? `Last reply ${ago(given.at(-1).ts)}` : "View thread"));
}

/** "is thinking…" as "Evenkeel is thinking…". */
export function statusText(text) {
  const name = bot().real_name || bot().name;
  return text.startsWith(name) ? text : `${name} ${text}`;
}

function bar(message, where, inThread) {
  const quick = (name, label) => h("button", { type: "button", class: "icon-button", title: label, "aria-label": label, testid: `quick-${name}`, on: { click: () => toggle(message, where, name) } }, emoji(name));
  const rated = authorOf(message).role === "bot" ? [quick("+1", "React with 👍"), quick("-1", "React with 👎")] : [];
  const more = iconButton("more", "More actions", () => menu(more, "More actions", moreItems(message, where)), { testid: "more-button" });
  return h("div", { class: "bar", role: "toolbar", "aria-label": "Message actions" }, rated,
    reactButton(message, where, "icon-button", "react-button"),
    inThread ? null : iconButton("reply", "Reply in thread", () => go({ channel: where.channel, thread: message.thread_ts ?? message.ts }), { testid: "reply-button" }),
    more);
}

function moreItems(message, where) {
  const shortcuts = state.shortcuts.filter((each) => (each.type ?? "message").startsWith("message"));
  const copy = async () => {
    const address = link({ channel: where.channel, thread: message.thread_ts ?? null });
    await navigator.clipboard?.writeText(address).then(() => toast("Link copied."), () => toast(address));
  };
  return [...shortcuts.map((each) => ({
    label: each.name, hint: firstName(bot().id), icon: icon("bolt"), testid: `shortcut-${each.callback_id}`,
    act: () => post("shortcut", { ...where, callback_id: each.callback_id }).catch(() => {}),
  })), { label: "Copy link", icon: icon("link"), testid: "copy-link", act: copy }, ...(message.user === state.me ? ownItems(message, where) : [])];
}

function ownItems(message, where) {
  const edit = () => { state.editing = message.ts; changed(); };
  const remove = async () => {
    const sure = await confirmed({ title: { text: "Delete this message?" }, text: { text: "It is gone for everybody." }, confirm: { text: "Delete" }, style: "danger" });
    if (sure) post("delete", where).catch(() => {});
  };
  return [{ label: "Edit message", icon: icon("edit"), testid: "edit-message", act: edit }, { label: "Delete message", icon: icon("trash"), testid: "delete-message", act: remove }];
}
