// The page as a whole: who looks, where, and what is drawn when something changes.

import { connect, onArrival } from "./api.js";
import { mainView } from "./main.js";
import { modalView } from "./modal.js";
import { toast } from "./notices.js";
import { FIRST, format, parse, settle, wantedUser } from "./place.js";
import { changed, state, subscribe } from "./state.js";
import { openBot, sidebarView } from "./sidebar.js";
import { threadView } from "./thread.js";

const page = document.getElementById("app");
const banner = document.getElementById("banner");
const drawer = (open) => page.classList.toggle("menu-open", open);

const showSidebar = sidebarView(document.getElementById("sidebar"), () => drawer(false));
const main = mainView(document.getElementById("main"), () => drawer(true));
const showThread = threadView(document.getElementById("thread"));
const showModal = modalView();

subscribe(() => {
  banner.hidden = state.connected;
  banner.textContent = "The connection to the workspace is lost. Trying again…";
  if (!state.booted) return;
  page.classList.toggle("has-thread", Boolean(state.place.thread));
  showSidebar();
  main.show();
  showThread();
  showModal();
});

let asked = null; // who this page is, or is about to be

function be(user) {
  asked = user;
  connect(user);
}

function moved() {
  const { user, channel } = parse(location.hash);
  drawer(false);
  if (user && user !== asked) return be(user);
  if (state.me !== asked) return; // still on the way: the arrival settles
  settleHere(channel);
  changed();
}

/** Settle; somebody who stood in another's direct message with the bot gets their own. */
function settleHere(channel) {
  const wasDirect = channel?.startsWith("D");
  settle();
  if (wasDirect && state.place.channel !== channel && !state.place.channel?.startsWith("D")) openBot();
}

/** Nobody is called that here: be whoever was here before, or the first of the cast. */
function strangers(user) {
  toast(`Nobody here is called ${user}.`);
  history.replaceState(null, "", format({ ...parse(location.hash), user: state.me ?? FIRST }));
  be(state.me ?? FIRST);
}

onArrival(() => settleHere(parse(location.hash).channel), strangers);
addEventListener("hashchange", moved);
document.addEventListener("visibilitychange", changed);
document.addEventListener("click", (event) => { if (page.classList.contains("menu-open") && event.target.closest(".main, .thread") && !event.target.closest(".menu-button")) drawer(false); });
be(wantedUser());
