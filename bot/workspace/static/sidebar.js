// The left side: who you are, where you can go, what is new.

import { h, icon, mark, reconcile } from "./dom.js";
import { post } from "./api.js";
import { avatar, roleBadge } from "./message.js";
import { go } from "./place.js";
import { HOME, bot, botChannel, changed, myChannels, nameOf, otherIn, people, state, titleOf, unread } from "./state.js";

const WHAT = { customer: "asks", agent: "rates and corrects", admin: "retrains and rolls back" };

/** Draw into `root`; `close` shuts the drawer of a narrow page. */
export function sidebarView(root, close) {
  const cast = h("div", { class: "cast", role: "radiogroup", "aria-label": "Who you are" });
  const places = h("div", { class: "places" });
  root.append(
    h("div", { class: "workspace" }, h("span", { class: "workspace-mark" }, mark()), h("div", {}, h("strong", {}, "Evenkeel Workspace"), h("small", {}, "A local Slack, on this machine only"))),
    h("h2", { class: "side-title", id: "cast-title" }, "You are"), cast, places);
  root.addEventListener("keydown", moveInCast);

  return function show() {
    reconcile(cast, people().map((user) => ({ key: user.id, mark: JSON.stringify([user, user.id === state.me]), build: () => person(user, close) })));
    reconcile(places, [homeRow(close), title("Channels"), ...myChannels("channel").map((channel) => row(channel, close)), title("Direct messages"), ...direct(close)]);
  };
}

function person(user, close) {
  const chosen = user.id === state.me;
  return h("button", {
    type: "button", class: "person", role: "radio", "aria-checked": String(chosen), tabindex: chosen ? "0" : "-1", testid: `user-switch-${user.id}`,
    title: `${nameOf(user.id)} ${WHAT[user.role] ?? ""}`, on: { click: () => { go({ user: user.id }); close(); } },
  }, avatar(user, "small"), h("span", { class: "person-name" }, nameOf(user.id)), roleBadge(user), chosen ? icon("check") : null);
}

function moveInCast(event) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  const cast = event.target.closest(".cast");
  if (!step || !cast) return;
  event.preventDefault();
  const all = [...cast.children];
  const next = all[(all.indexOf(event.target) + step + all.length) % all.length];
  next.focus();
  next.click();
}

const title = (text) => ({ key: text, mark: text, build: () => h("h2", { class: "side-title" }, text) });

function homeRow(close) {
  const here = state.place.channel === HOME;
  return { key: HOME, mark: String(here), build: () => place({ testid: "home", here, look: icon("home"), name: "App Home", act: () => { go({ channel: HOME }); close(); } }) };
}

function row(channel, close) {
  const here = state.place.channel === channel.id;
  const news = here ? { count: 0, personal: 0 } : unread(channel);
  const name = titleOf(channel);
  return { key: channel.id, mark: JSON.stringify([name, here, news]), build: () => place({
    testid: `channel-${channel.id}`, here, news, name, act: () => { go({ channel: channel.id }); close(); },
    look: channel.kind === "im" ? avatar(state.users.get(otherIn(channel)) ?? bot(), "tiny") : icon("hash"),
    end: channel.kind === "im" && otherIn(channel) === bot().id ? h("span", { class: "badge badge-app" }, "APP") : null,
  }) };
}

/** One's direct messages, the one with the bot first, there even before it was opened. */
function direct(close) {
  const own = botChannel();
  const rest = myChannels("im").filter((channel) => channel !== own);
  const unopened = { key: "dm-bot", mark: "", build: () => place({
    testid: "channel-bot", look: avatar(bot(), "tiny"), name: nameOf(bot().id) === bot().id ? bot().real_name : nameOf(bot().id),
    end: h("span", { class: "badge badge-app" }, "APP"), act: () => { openBot(); close(); },
  }) };
  return [own ? row(own, close) : unopened, ...rest.map((channel) => row(channel, close))];
}

/** Open the direct message with the bot and go there. */
export async function openBot() {
  const { channel } = await post("dm").catch(() => ({}));
  if (!channel) return;
  if (!state.channels.has(channel)) state.channels.set(channel, { id: channel, name: "", kind: "im", members: [state.me, bot().id] });
  go({ channel });
  changed();
}

function place({ testid, here, news = { count: 0, personal: 0 }, look, name, end, act }) {
  return h("button", {
    type: "button", class: `place ${news.count ? "is-new" : ""}`, "aria-current": here ? "page" : null, testid, on: { click: act },
    "aria-label": news.count ? `${name}, ${news.count} new` : null,
  }, look, h("span", { class: "place-name" }, name), end ?? null,
  news.personal ? h("span", { class: "pill" }, String(news.personal)) : news.count ? h("span", { class: "new-dot" }) : null);
}
