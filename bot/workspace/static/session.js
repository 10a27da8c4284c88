// Under a thread: the Stop button while the bot works there, or how its session stands.

import { h, icon } from "./dom.js";
import { post } from "./api.js";
import { bot, nameOf, sessionAt } from "./state.js";

const STANDS = {
  suspended: "waits: a person takes over here.",
  closed: "has closed this conversation.",
};

/** A line that shows itself when there is something to show. Gives {node, show}. */
export function sessionLine() {
  const node = h("div", { class: "session", testid: "session", hidden: true });
  let drawn = "";

  function show(channel, thread) {
    const { session, stoppable } = sessionAt(channel, thread);
    const mark = JSON.stringify([channel, thread, session, stoppable]);
    if (mark === drawn) return;
    drawn = mark;
    const stands = STANDS[session];
    node.hidden = !stoppable && !stands;
    node.replaceChildren(...(stoppable ? [stopButton(channel, thread)] : stands ? [h("span", {}, `${nameOf(bot().id)} ${stands}`)] : []));
  }
  return { node, show };
}

function stopButton(channel, thread) {
  const node = h("button", { type: "button", class: "button stop", testid: "stop", on: { click: async () => {
    if (node.getAttribute("aria-busy")) return;
    node.setAttribute("aria-busy", "true");
    await post("stop", { channel, thread_ts: thread }).catch(() => {});
    node.removeAttribute("aria-busy");
  } } }, icon("stop"), "Stop");
  return node;
}
