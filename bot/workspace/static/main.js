// The middle: a channel with its messages and composer, or the App Home.

import { h, icon, iconButton } from "./dom.js";
import { composer } from "./composer.js";
import { guideRow } from "./guide.js";
import { homeView } from "./home.js";
import { avatar } from "./message.js";
import { timelineView } from "./timeline.js";
import { HOME, bot, markRead, nameOf, otherIn, readUpTo, state, statusAt, timeline, titleOf } from "./state.js";

const TOPICS = { support: "Ask Evenkeel for help", ops: "Runs, report cards and alarms", general: "Everything else" };

/** Draw into `root`; `openMenu` opens the drawer of a narrow page. Gives {show, prefill}. */
export function mainView(root, openMenu) {
  const head = h("header", { class: "head" });
  const strip = h("div", { class: "strip" });
  const list = timelineView("Messages", "messages");
  const writer = composer("composer", () => (state.place.channel && state.place.channel !== HOME ? { channel: state.place.channel } : null));
  const home = homeView();
  root.append(head, strip, list.node, home.node, writer.node);
  let open = null;
  let wanted = null;

  function show() {
    const channel = state.channels.get(state.place.channel);
    const here = `${state.me}/${state.place.channel}`;
    drawHead(head, channel, openMenu);
    const atHome = state.place.channel === HOME;
    home.node.hidden = !atHome;
    list.node.hidden = writer.node.hidden = atHome;
    const guide = atHome ? null : guideRow(channel, prefill);
    strip.replaceChildren(...(guide?.small ? [guide.build()] : []));
    if (atHome) home.show(open !== here);
    else if (channel) drawChannel(channel, here, guide);
    open = here;
  }

  function drawChannel(channel, here, guide) {
    const messages = timeline(channel.id);
    const entered = open !== here;
    if (entered) state.news = { since: readUpTo(channel.id) };
    const top = guide && !guide.small ? guide : beginning(channel);
    writer.show(`Message ${channel.kind === "im" ? titleOf(channel) : "#" + channel.name}`, channel.id);
    list.show(messages, { channel: channel.id, head: messages.length > 60 ? null : top, toEnd: entered, status: statusAt(channel.id, null) });
    if (!document.hidden) markRead(channel.id);
    if (entered && !state.place.thread && !matchMedia("(pointer: coarse)").matches && !document.activeElement?.closest(".sidebar, dialog")) writer.focus();
    if (wanted?.user === state.me) {
      writer.write(wanted.text);
      writer.focus();
      wanted = null;
    }
  }

  /** Write this into the composer as soon as the page belongs to `user`. */
  function prefill(user, text) {
    wanted = { user, text };
    show();
  }

  return { show, prefill };
}

function drawHead(head, channel, openMenu) {
  const atHome = state.place.channel === HOME;
  const direct = channel?.kind === "im";
  const other = direct ? state.users.get(otherIn(channel)) ?? bot() : null;
  const members = (channel?.members ?? []).filter((id) => state.users.has(id));
  const name = atHome ? nameOf(bot().id) : channel ? titleOf(channel) : "";
  const topic = atHome ? "App Home" : direct ? (other.role === "bot" ? "Ask me here, only you and I see it" : "") : TOPICS[channel?.name] ?? "";
  head.replaceChildren(
    iconButton("menu", "Open the menu", openMenu, { class: "icon-button menu-button", testid: "menu" }),
    h("h1", {}, atHome ? avatar(bot(), "tiny") : direct ? avatar(other, "tiny") : icon("hash"), name || bot().real_name), h("p", {}, topic),
    !direct && members.length ? h("div", { class: "members", title: members.map(nameOf).join(", ") }, members.slice(0, 5).map((id) => avatar(state.users.get(id), "small")), h("span", {}, String(members.length))) : "",
    h("span", { class: "me-chip", title: `You are ${nameOf(state.me)}` }, avatar(state.users.get(state.me) ?? { name: "?" }, "small")));
  document.title = `${atHome ? "App Home" : direct ? name : "#" + name} · Evenkeel Workspace`;
}

function beginning(channel) {
  const direct = channel.kind === "im";
  return { key: "beginning", mark: channel.id, build: () => h("div", { class: "beginning" },
    direct ? avatar(state.users.get(otherIn(channel)) ?? bot(), "large") : h("span", { class: "beginning-mark" }, icon("hash")),
    h("h2", {}, titleOf(channel)),
    h("p", {}, direct ? "This is the beginning of your conversation." : `This is the beginning of #${channel.name}. ${TOPICS[channel.name] ?? "Everybody of this workspace is here"}.`)) };
}
