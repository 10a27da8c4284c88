// The right side: one thread with its own composer.

import { h, iconButton } from "./dom.js";
import { composer } from "./composer.js";
import { sessionLine } from "./session.js";
import { timelineView } from "./timeline.js";
import { go } from "./place.js";
import { HOME, state, statusAt, threadOf, titleOf } from "./state.js";

/** Draw into `root`, which is hidden while no thread is open. */
export function threadView(root) {
  const from = h("p", {});
  const list = timelineView("Thread", "thread-messages");
  const writer = composer("thread-composer", () => ({ channel: state.place.channel, thread_ts: state.place.thread }));
  const session = sessionLine();
  root.append(h("header", { class: "head" }, h("h1", {}, "Thread"), from, iconButton("close", "Close the thread", () => go({ thread: null }), { testid: "thread-close" })), list.node, session.node, writer.node);
  root.addEventListener("keydown", (event) => { if (event.key === "Escape" && !event.defaultPrevented) go({ thread: null }); });
  let open = null;

  return function show() {
    const { channel, thread } = state.place;
    const here = thread && channel !== HOME ? `${state.me}/${channel}/${thread}` : null;
    root.hidden = !here;
    const entered = here !== open;
    open = here;
    if (!here || !state.channels.has(channel)) return;
    from.textContent = state.channels.get(channel).kind === "im" ? titleOf(state.channels.get(channel)) : `#${titleOf(state.channels.get(channel))}`;
    writer.show("Reply…", `${channel}/${thread}`);
    session.show(channel, thread);
    list.show(threadOf(channel, thread), { channel, inThread: true, toEnd: entered, status: statusAt(channel, thread) });
    if (entered && !matchMedia("(pointer: coarse)").matches && !document.activeElement?.closest(".sidebar")) writer.focus();
  };
}
