// Where the page is: user, channel and thread in the address (#U0MIA/C0SUPPORT/1700000000.000100), so that every
// state can be linked to. Knows no server.

import { HOME, botChannel, messageAt, recall, remember, state } from "./state.js";

export function parse(hash) {
  const [user, channel, thread] = decodeURIComponent(hash.replace(/^#/, "")).split("/");
  return { user: user || null, channel: channel || null, thread: thread || null };
}

export function format({ user, channel, thread }) {
  return "#" + [user, channel, thread].filter(Boolean).join("/");
}

/** Go somewhere: what is not named stays as the address has it, but a thread belongs to its channel. */
export function go(to) {
  const here = parse(location.hash);
  const next = { ...here, thread: "channel" in to ? null : here.thread, ...to };
  const hash = format(next);
  if (hash !== location.hash) location.hash = hash;
}

export const link = (to) => location.href.split("#")[0] + format({ ...state.place, ...to });

export const FIRST = "U0MIA";

/** The user of the address, else the last one, else the first of the cast. */
export const wantedUser = () => parse(location.hash).user ?? recall("evenkeel/user", FIRST);

/** The thread that a message stands in: an address may name any message. */
const parentOf = (channel, ts) => messageAt(channel, ts)?.thread_ts ?? ts;

/** The address as a place that exists for this user: a direct message of somebody else becomes one's own. */
export function settle() {
  const { channel, thread } = parse(location.hash);
  const user = state.me;
  remember("evenkeel/user", user);
  const found = state.channels.get(channel);
  const mine = found && ((found.kind ?? "channel") !== "im" || found.members.includes(user));
  if (channel === HOME || mine) state.place = { user, channel, thread: parentOf(channel, thread) };
  else {
    state.place = { user, channel: null, thread: null };
    const first = found?.kind === "im" || channel?.startsWith("D") ? botChannel() : null;
    const support = [...state.channels.values()].find((each) => each.name === "support") ?? [...state.channels.values()][0];
    state.place.channel = (first ?? support)?.id ?? HOME;
  }
  if (format(state.place) !== location.hash) history.replaceState(null, "", format(state.place));
}
