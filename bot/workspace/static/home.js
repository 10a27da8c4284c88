// The App Home tab: the view that the bot published for this person.

import { h } from "./dom.js";
import { post } from "./api.js";
import { blocks } from "./blocks.js";
import { merged, valuesOf } from "./fields.js";
import { avatar } from "./message.js";
import { bot, state } from "./state.js";

export function homeView() {
  const node = h("section", { class: "home", testid: "home-view", "aria-label": "App Home", tabindex: "0" });
  let drawn = null;
  let fields = [];

  /** Draw it; on entering, tell the bot that somebody looks. */
  function show(entered) {
    if (entered) post("home").catch(() => {});
    const mark = JSON.stringify([state.me, state.home]);
    if (mark === drawn) return;
    drawn = mark;
    const typed = valuesOf(fields);
    fields = [];
    const act = (payload) => post("click", { view_id: state.home.id, values: valuesOf(fields), ...payload });
    const kept = merged(state.home?.state?.values, typed);
    node.replaceChildren(h("div", { class: "home-page" }, state.home
      ? blocks(state.home.blocks, { act, scope: "home", fields, kept })
      : h("div", { class: "home-empty" }, avatar(bot(), "large"), h("h2", {}, "Nothing here yet"), h("p", {}, "The bot fills this page as soon as it hears that you opened it. If it stays empty, is the bot running?"))));
  }
  return { node, show };
}
