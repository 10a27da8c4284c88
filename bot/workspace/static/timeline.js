// A scrolling list of messages: day dividers, the "New" line, grouping, and staying at the end while one is there.

import { h, icon, reconcile } from "./dom.js";
import { messageMark, messageRow, statusText } from "./message.js";
import { authorOf, state } from "./state.js";
import { dayName, dayOf, near } from "./time.js";

const AT_END_PX = 80;

/** A list that keeps its place. `show(messages, view)` draws; view is {channel, inThread, status, head, toEnd}. */
export function timelineView(label, testid) {
  const list = h("div", { class: "rows", role: "list", "aria-live": "polite", "aria-relevant": "additions" });
  const box = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label, testid }, list);
  const jump = h("button", { type: "button", class: "jump", hidden: true, on: { click: () => end(true) } }, icon("down"), "New messages");
  const node = h("div", { class: "timeline" }, box, jump);
  const nearEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < AT_END_PX;
  let stuck = true;
  let last = "";
  const end = (smooth) => box.scrollTo({ top: box.scrollHeight, behavior: smooth && !matchMedia("(prefers-reduced-motion: reduce)").matches ? "smooth" : "instant" });
  box.addEventListener("scroll", () => { stuck = nearEnd(); if (stuck) jump.hidden = true; });
  new ResizeObserver(() => { if (stuck) end(false); }).observe(list);
  new ResizeObserver(() => { if (stuck) end(false); }).observe(box);

  function show(messages, view) {
    if (view.toEnd) stuck = true;
    reconcile(list, rows(messages, view));
    const newest = messages.at(-1);
    if (newest && newest.ts !== last && newest.user === state.me) stuck = true;
    if (newest && newest.ts > last && !stuck && last) jump.hidden = false;
    last = newest?.ts ?? "";
    if (stuck) end(false);
  }
  return { node, show, list };
}

function rows(messages, view) {
  const out = view.head ? [view.head] : [];
  messages.forEach((message, at) => {
    const before = messages[at - 1];
    const newDay = !view.inThread && (!before || dayOf(before.ts) !== dayOf(message.ts));
    if (newDay) out.push({ key: `day-${dayOf(message.ts)}`, mark: dayName(message.ts), build: () => h("div", { class: "day", role: "separator" }, h("span", {}, dayName(message.ts))) });
    const news = !view.inThread && startsNews(messages, at);
    if (news) out.push({ key: "news", mark: "", build: () => h("div", { class: "news", role: "separator" }, h("span", {}, "New")) });
    const joined = !newDay && !news && at > (view.inThread ? 1 : 0) && belongsTogether(before, message);
    const shape = { ...view, joined };
    out.push({ key: message.ts, mark: messageMark(message, shape), build: () => messageRow(message, shape) });
    if (view.inThread && at === 0) out.push(replyLine(messages.filter((each) => !each.ephemeral).length - 1));
  });
  if (view.status) out.push({ key: "status", mark: view.status, build: () => statusLine(view.status) });
  return out;
}

function replyLine(count) {
  const text = count < 1 ? "No replies yet" : count === 1 ? "1 reply" : `${count} replies`;
  return { key: "count", mark: text, build: () => h("div", { class: "reply-line" }, text) };
}

function startsNews(messages, at) {
  const since = state.news?.since;
  if (!since || messages[at].ts <= since || messages[at].user === state.me) return false;
  return !messages.slice(0, at).some((message) => message.ts > since && message.user !== state.me);
}

const card = (message) => message.blocks?.length > 2;

function belongsTogether(before, message) {
  return before && authorOf(before).id === authorOf(message).id && authorOf(before).real_name === authorOf(message).real_name && near(before.ts, message.ts)
    && !card(before) && !card(message) && !before.ephemeral && !message.ephemeral && !before.subtype && !message.subtype && !before.reply_count;
}

function statusLine(text) {
  return h("div", { class: "status-line", testid: "status" }, h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")), statusText(text));
}
