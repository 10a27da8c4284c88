// The list over a composer while one types: people after @, commands after /, emoji after a colon.

import { h, icon } from "./dom.js";
import { emoji, search } from "./emoji.js";
import { avatar, roleBadge } from "./message.js";
import { state } from "./state.js";

const MOST = 8;

/** Complete in this textarea. Gives a keydown handler that answers true when it took the key. */
export function completion(area, panel, { slash }) {
  let items = [];
  let at = 0;
  let from = 0;

  const close = () => { items = []; panel.hidden = true; area.removeAttribute("aria-activedescendant"); area.setAttribute("aria-expanded", "false"); };

  function refresh() {
    const typed = area.value.slice(0, area.selectionStart);
    const found = slash && /^\/(\S*)$/.exec(typed);
    const word = found ?? /(?:^|\s)([@:])([\p{L}\p{N}_+-]*)$/u.exec(typed);
    items = found ? commands(found[1]) : word?.[1] === "@" ? persons(word[2]) : word && word[2].length > 1 ? emojis(word[2]) : [];
    from = found ? 0 : word ? typed.length - word[2].length - 1 : 0;
    at = 0;
    draw();
  }

  function draw() {
    if (!items.length) return close();
    panel.hidden = false;
    area.setAttribute("aria-expanded", "true");
    panel.replaceChildren(...items.map((item, index) => h("div", {
      class: "option", id: `${panel.id}-${index}`, role: "option", "aria-selected": String(index === at), testid: item.testid,
      on: { mousedown: (event) => { event.preventDefault(); take(index); } },
    }, item.look, h("span", { class: "option-name" }, item.name), item.note ? h("span", { class: "option-note" }, item.note) : null, item.end ?? null)));
    area.setAttribute("aria-activedescendant", `${panel.id}-${at}`);
    panel.children[at].scrollIntoView({ block: "nearest" });
  }

  function take(index) {
    const text = items[index].insert + " ";
    area.setRangeText(text, from, area.selectionStart, "end");
    close();
    area.dispatchEvent(new Event("input", { bubbles: true }));
    area.focus();
  }

  function onKey(event) {
    if (panel.hidden || event.isComposing) return false;
    const whole = items[at].insert === area.value.slice(from).trim();
    if (event.key === "Enter" && whole && from === 0) { close(); return false; }
    if (event.key === "ArrowDown") at = (at + 1) % items.length;
    else if (event.key === "ArrowUp") at = (at - 1 + items.length) % items.length;
    else if (event.key === "Enter" || event.key === "Tab") { event.preventDefault(); take(at); return true; }
    else if (event.key === "Escape") { event.stopPropagation(); close(); return true; }
    else return false;
    event.preventDefault();
    draw();
    return true;
  }

  area.addEventListener("input", refresh);
  area.addEventListener("blur", close);
  return onKey;
}

const has = (text, query) => String(text ?? "").toLowerCase().includes(query.toLowerCase());

function persons(query) {
  const fits = (user) => has(user.name, query) || has(user.real_name, query);
  const first = (user) => (user.role === "bot" ? 2 : 0) + (has(user.name.slice(0, query.length), query) ? 4 : 0);
  return [...state.users.values()].filter(fits).sort((a, b) => first(b) - first(a)).slice(0, MOST).map((user) => ({
    insert: `@${user.real_name || user.name}`, name: user.real_name || user.name, look: avatar(user, "small"), testid: `complete-${user.id}`,
    end: user.role === "bot" ? h("span", { class: "badge badge-app" }, "APP") : roleBadge(user),
  }));
}

function commands(query) {
  return state.commands.filter((each) => each.command.slice(1).startsWith(query.toLowerCase())).map((each) => ({
    insert: each.command, name: each.command, look: h("span", { class: "option-icon" }, icon("bolt")), testid: `complete-${each.command.slice(1)}`,
    note: [each.usage_hint, each.description].filter(Boolean).join(" · "),
  }));
}

function emojis(query) {
  return search(query, MOST).map((name) => ({ insert: `:${name}:`, name: `:${name}:`, look: emoji(name), testid: `complete-${name}` }));
}
