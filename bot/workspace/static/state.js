// What this page knows, and who wants to hear of changes. Knows no element and no server.

export const state = {
  me: null, team: null, connected: true, booted: false,
  users: new Map(), usergroups: new Map(), channels: new Map(), commands: [], shortcuts: [],
  messages: new Map(), ephemerals: new Map(), statuses: new Map(),
  home: null, view: null,
  place: { user: null, channel: null, thread: null },
  dismissed: new Set(), // ts of private notes that were waved away on this page
  editing: null, // ts of the message that this person is changing
  news: null, // {channel, ts}: where "New" is drawn, fixed while the channel is open
};

const listeners = [];
let queued = false;

export function subscribe(listener) {
  listeners.push(listener);
}

/** Tell the views, once however many changes came together. */
export function changed() {
  if (queued) return;
  queued = true;
  queueMicrotask(() => {
    queued = false;
    for (const listener of listeners) listener();
  });
}

export const HOME = "home";
const BOT = { id: "U0EVENKEEL", name: "evenkeel", real_name: "Evenkeel", role: "bot" };

export const bot = () => [...state.users.values()].find((user) => user.role === "bot") ?? BOT;
export const isOurBot = (user) => user.role === "bot" && user.id === bot().id;
export const people = () => [...state.users.values()].filter((user) => user.role !== "bot");
export const nameOf = (id) => { const user = state.users.get(id); return user?.real_name || user?.name || id; };
export const firstName = (id) => nameOf(id).split(" ")[0];

/** Who speaks in a message: a person, or the bot under whatever name it posts. */
export function authorOf(message) {
  if (message.bot_id || message.subtype === "bot_message") {
    const known = state.users.get(message.user);
    return { ...(known ?? bot()), real_name: message.username || (known ?? bot()).real_name || bot().name, role: "bot" };
  }
  return state.users.get(message.user) ?? { id: message.user ?? "?", name: message.user ?? "unknown", real_name: message.username ?? message.user ?? "unknown", role: "" };
}

/** The channels and direct messages that this person is in. */
export const myChannels = (kind) => [...state.channels.values()].filter((channel) =>
  (channel.kind ?? "channel") === kind && (kind === "channel" || (channel.members ?? []).includes(state.place.user)));

export const botChannel = () => myChannels("im").find((channel) => channel.members.includes(bot().id));
export const otherIn = (channel) => channel.members.find((id) => id !== state.place.user) ?? bot().id;

export function titleOf(channel) {
  return (channel.kind ?? "channel") === "im" ? nameOf(otherIn(channel)) : channel.name;
}

export const isReply = (message) => Boolean(message.thread_ts && message.thread_ts !== message.ts);
const byTs = (a, b) => (a.ts < b.ts ? -1 : a.ts > b.ts ? 1 : 0);

function all(channel) {
  const own = [...(state.ephemerals.get(channel)?.values() ?? [])].map((message) => ({ ...message, ephemeral: true }));
  return [...(state.messages.get(channel)?.values() ?? []), ...own].sort(byTs);
}

/** What stands in the channel itself: no replies, but those that were also sent to the channel. */
export const timeline = (channel) => all(channel).filter((message) => !isReply(message) || message.subtype === "thread_broadcast");

/** The parent and its replies; empty when the parent is unknown. */
export const threadOf = (channel, ts) => all(channel).filter((message) => message.ts === ts || (isReply(message) && message.thread_ts === ts));

export const repliesTo = (channel, ts) => threadOf(channel, ts).filter((message) => message.ts !== ts && !message.ephemeral);
export const messageAt = (channel, ts) => state.messages.get(channel)?.get(ts) ?? state.ephemerals.get(channel)?.get(ts);
const under = (channel, thread) => state.statuses.get(`${channel}/${thread ?? ""}`);
export const statusAt = (channel, thread) => under(channel, thread)?.text ?? "";

/** The agent session of a thread: {session, stoppable}, or nothing. */
export const sessionAt = (channel, thread) => under(channel, thread) ?? { session: "", stoppable: false };

/** Keep a pushed or booted message, in place of an older form of it. */
export function keep(channel, message, kind = "messages") {
  if (!state[kind].has(channel)) state[kind].set(channel, new Map());
  state[kind].get(channel).set(message.ts, message);
}

/** Wave a private note away: the workspace keeps it, this page does not show it again. */
export function dismiss(channel, ts) {
  state.dismissed.add(ts);
  drop(channel, ts);
}

export function drop(channel, ts) {
  state.messages.get(channel)?.delete(ts);
  state.ephemerals.get(channel)?.delete(ts);
}

// What a person has read lives in the browser, a list for each user of the team.

const shelf = () => `evenkeel/read/${state.team?.id ?? ""}/${state.place.user}`;

export function recall(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch { /* private mode: nothing is remembered */ }
}

export const readUpTo = (channel) => recall(shelf(), {})[channel] ?? "";

export function markRead(channel) {
  const last = all(channel).at(-1)?.ts;
  if (last && readUpTo(channel) < last) remember(shelf(), { ...recall(shelf(), {}), [channel]: last });
}

/** How many messages of others came since this person last looked, and whether one of them calls for them by name. */
export function unread(channel) {
  const since = readUpTo(channel.id);
  const fresh = all(channel.id).filter((message) => message.ts > since && message.user !== state.place.user && !message.streaming);
  const personal = channel.kind === "im" ? fresh : fresh.filter((message) => message.text?.includes(`<@${state.place.user}>`));
  return { count: fresh.length, personal: personal.length };
}
