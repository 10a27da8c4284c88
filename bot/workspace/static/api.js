// The way to the server: calls, the first load and the live line, which comes back by itself. Knows no element.

import { changed, drop, keep, state } from "./state.js";
import { toast } from "./notices.js";

/** POST to the page's API as the user of this page. Says what went wrong in a toast, then raises. */
export async function post(name, body = {}) {
  let response;
  try {
    response = await fetch(`/ui/api/${name}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ user: state.me, ...body }),
    });
  } catch (error) {
    toast("The workspace does not answer. Is it still running?");
    throw error;
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer ?? {};
  const reason = typeof answer.error === "string" ? answer.error : `The workspace said ${response.status}.`;
  toast(reason);
  throw new Error(reason);
}

let line = null;
let turn = 0; // of two loads under way, the later one wins

/** Be this user: open the live line first, then load, so that nothing falls between; again after every break. */
export function connect(user) {
  const mine = ++turn;
  let wait = 250;
  line?.close();
  const open = () => {
    if (mine !== turn) return;
    let early = [];
    const socket = line = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ui/ws?user=${encodeURIComponent(user)}`);
    socket.onmessage = ({ data }) => {
      const push = JSON.parse(data);
      if (early) early.push(push);
      else { apply(push); changed(); }
    };
    socket.onopen = async () => {
      const loaded = await load(user).catch(() => null);
      if (mine !== turn) return;
      if (!loaded) return socket.close();
      wait = 250;
      adopt(loaded, user);
      early.forEach(apply);
      early = null;
      state.connected = true;
      arrived();
      changed();
    };
    socket.onclose = async () => {
      if (mine !== turn) return;
      if (await isStranger(user)) return refused(user);
      state.connected = false;
      changed();
      setTimeout(open, wait);
      wait = Math.min(wait * 2, 4000);
    };
  };
  open();
}

let arrived = () => {};
let refused = () => {};

/** What to do after every load, and when the workspace knows nobody by the name that was asked for. */
export function onArrival(act, otherwise) {
  arrived = act;
  refused = otherwise;
}

/** Whether the workspace is there and does not know this user. */
async function isStranger(user) {
  const response = await fetch(`/ui/api/boot?user=${encodeURIComponent(user)}`).catch(() => null);
  return response?.status === 404;
}

async function load(user) {
  const response = await fetch(`/ui/api/boot?user=${encodeURIComponent(user)}`);
  if (!response.ok) throw new Error(`boot: ${response.status}`);
  return response.json();
}

function adopt(loaded, user) {
  if (state.me !== user) state.view = null;
  state.me = user;
  state.team = typeof loaded.team === "string" ? { id: loaded.team } : loaded.team;
  state.users = new Map(loaded.users.map((each) => [each.id, each]));
  state.channels = new Map(loaded.channels.map((each) => [each.id, each]));
  state.commands = loaded.commands ?? [];
  state.shortcuts = loaded.shortcuts ?? [];
  state.messages = new Map();
  state.ephemerals = new Map();
  state.statuses = new Map();
  state.usergroups = new Map((loaded.usergroups ?? []).map((each) => [each.id, each]));
  (loaded.statuses ?? []).forEach(setStatus);
  for (const [channel, messages] of Object.entries(loaded.messages ?? {})) for (const message of messages) keep(channel, message);
  for (const message of (loaded.ephemerals ?? []).filter(({ ts }) => !state.dismissed.has(ts))) keep(message.channel, message, "ephemerals");
  state.home = loaded.home ?? null;
  state.booted = true;
}

function apply(push) {
  if (push.type === "message") {
    if (!state.channels.has(push.channel)) return unknownChannel(push.channel);
    keep(push.channel, push.message);
  } else if (push.type === "deleted") drop(push.channel, push.ts);
  else if (push.type === "ephemeral") keep(push.channel, push.message, "ephemerals");
  else if (push.type === "view") state.view = push.view ?? null;
  else if (push.type === "home") state.home = push.view ?? null;
  else if (push.type === "status") setStatus(push);
}

const asked = new Set();

/** A direct message that was just opened: load anew, once. */
function unknownChannel(channel) {
  if (asked.has(channel)) return;
  asked.add(channel);
  connect(state.me);
}

function setStatus({ channel, thread_ts, text, session, stoppable }) {
  state.statuses.set(`${channel}/${thread_ts ?? ""}`, { text, session, stoppable });
}
