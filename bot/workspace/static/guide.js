// The first steps: ask, rate, retrain. A card in an empty #support, then a quiet line until it is done or dismissed.

import { h, icon, iconButton } from "./dom.js";
import { emoji } from "./emoji.js";
import { avatar } from "./message.js";
import { toast } from "./notices.js";
import { go } from "./place.js";
import { DISMISSED, progress } from "./progress.js";
import { authorOf, bot, changed, firstName, isReply, people, recall, remember, state } from "./state.js";

const EXAMPLE = "@Evenkeel How do I reset my password?";
const cast = (role) => people().find((user) => user.role === role);

/** The row that stands first in #support, or null. `prefill(text)` writes into the composer after the switch. */
export function guideRow(channel, prefill) {
  if (channel?.name !== "support" || recall(DISMISSED, false)) return null;
  const done = progress();
  if (done.asked && done.rated && done.retrained) return null;
  const who = { customer: cast("customer"), agent: cast("agent"), admin: cast("admin") };
  if (!who.customer || !who.agent || !who.admin) return null;
  const list = steps(channel, who, done, prefill);
  const build = done.asked ? () => strip(list) : () => card(list);
  return { key: "guide", mark: JSON.stringify([done, state.me]), small: done.asked, build };
}

function steps(channel, who, done, prefill) {
  const be = (user, text) => () => { go({ user: user.id, channel: channel.id }); prefill(user.id, text); };
  return [
    { user: who.customer, done: done.asked, title: `Ask as ${firstName(who.customer.id)}`, testid: "guide-ask", text: ["A customer mentions the bot. The tuned model answers; the base model answers the same question, silently."], act: be(who.customer, EXAMPLE) },
    { user: who.agent, done: done.rated, title: [`Rate as ${firstName(who.agent.id)} with `, emoji("+1"), " or ", emoji("-1")], testid: "guide-rate", text: ["An agent reacts to the answer. Only agents' ratings become lessons."], act: () => { be(who.agent, "")(); rate(channel, who.agent.id); } },
    { user: who.admin, done: done.retrained, title: [h("code", {}, "/retrain"), ` as ${firstName(who.admin.id)}`], testid: "guide-retrain", text: ["An admin starts a run. It goes live only if support got better and nothing else got worse."], act: be(who.admin, "/retrain") },
  ];
}

/** Show this agent the newest answer, in its thread if it has one. */
function rate(channel, agent) {
  const answers = [...(state.messages.get(channel.id)?.values() ?? [])].filter((message) => authorOf(message).role === "bot");
  const newest = answers.sort((a, b) => (a.ts < b.ts ? -1 : 1)).at(-1);
  if (!newest) return toast("There is no answer to rate yet: ask a question first.");
  if (isReply(newest)) go({ channel: channel.id, thread: newest.thread_ts });
  pointAt(newest.ts, agent);
}

/** Once the page belongs to `agent`, give this message the focus and a glow. */
function pointAt(ts, agent, tries = 20) {
  const row = state.me === agent && document.querySelector(`[data-ts="${CSS.escape(ts)}"]`);
  if (!row) return tries > 0 ? setTimeout(pointAt, 100, ts, agent, tries - 1) : null;
  row.focus();
  row.classList.add("is-pointed-at");
  return null;
}

function dismiss() {
  remember(DISMISSED, true);
  changed();
}

function card(list) {
  return h("section", { class: "guide", testid: "guide", "aria-label": "First steps" },
    h("div", { class: "guide-head" }, h("span", { class: "guide-mark" }, avatar(bot(), "large")),
      h("div", {}, h("h2", {}, "Welcome aboard"), h("p", {}, "Three steps take you around the whole loop. You can be anyone here: each button switches the person and writes an example for you."))),
    h("ol", { class: "guide-steps" }, list.map((step, at) => h("li", { class: step.done ? "is-done" : "" },
      h("span", { class: "guide-number", "aria-hidden": "true" }, step.done ? icon("check") : String(at + 1)),
      h("div", { class: "guide-text" }, h("strong", {}, step.title), h("p", {}, step.text)),
      h("button", { type: "button", class: `button ${at === 0 ? "primary" : ""}`, testid: step.testid, on: { click: step.act } }, avatar(step.user, "tiny"), `Be ${firstName(step.user.id)}`)))));
}

function strip(list) {
  const next = list.findIndex((step) => !step.done);
  return h("section", { class: "guide-strip", testid: "guide", "aria-label": "First steps" },
    h("ol", {}, list.map((step, at) => h("li", { class: step.done ? "is-done" : at === next ? "is-next" : "" },
      h("button", { type: "button", testid: step.testid, on: { click: step.act } }, h("span", { class: "guide-number" }, step.done ? icon("check") : String(at + 1)), h("span", {}, step.title))))),
    iconButton("close", "Hide these steps", dismiss, { testid: "guide-hide" }));
}
