// Where one writes: grows with the text, Enter sends, a slash at the start is a command. Drafts stay by place and person.

import { h, iconButton } from "./dom.js";
import { post } from "./api.js";
import { completion } from "./completion.js";
import { toast } from "./notices.js";
import { avatar } from "./message.js";
import { pickEmoji } from "./picker.js";
import { noteCommand } from "./progress.js";
import { state } from "./state.js";
import { outgoing } from "./text.js";

const TALLEST_PX = 240;
const MOST = 40000;
const drafts = new Map();

/** A composer; `target()` gives {channel, thread_ts?} or null. */
export function composer(testid, target) {
  const panelId = `${testid}-options`;
  const area = h("textarea", { rows: 1, maxlength: MOST, testid, role: "combobox", "aria-expanded": "false", "aria-controls": panelId, "aria-autocomplete": "list", spellcheck: true });
  const panel = h("div", { class: "options", id: panelId, role: "listbox", "aria-label": "Suggestions", hidden: true });
  const hint = h("div", { class: "composer-hint" });
  const face = h("span", { class: "composer-face" });
  const send = iconButton("send", "Send", () => submit(), { class: "icon-button send", testid: `${testid}-send` });
  const smile = iconButton("smile", "Insert an emoji", () => pickEmoji(smile, (name) => { area.setRangeText(`:${name}: `, area.selectionStart, area.selectionEnd, "end"); area.focus(); changed(); }));
  const node = h("div", { class: "composer" }, panel, h("div", { class: "composer-box" }, face, area, smile, send), hint);
  const onKey = completion(area, panel, { slash: testid === "composer" });
  let place = "";

  area.addEventListener("input", () => changed());
  area.addEventListener("keydown", (event) => {
    if (onKey(event) || event.isComposing || event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    submit();
  });

  function changed() {
    drafts.set(place, area.value);
    area.style.setProperty("height", "auto");
    area.style.setProperty("height", `${Math.min(area.scrollHeight, TALLEST_PX)}px`);
    send.disabled = !area.value.trim();
    const command = testid === "composer" && state.commands.find((each) => area.value.split(/\s/)[0] === each.command);
    hint.replaceChildren(...(command ? [h("code", {}, command.command), ` ${[command.usage_hint, command.description].filter(Boolean).join(" · ")}`]
      : [h("kbd", {}, "Enter"), " sends, ", h("kbd", {}, "Shift"), " ", h("kbd", {}, "Enter"), " starts a new line"]));
  }

  async function submit() {
    const typed = area.value.trim();
    const to = target();
    if (!typed || !to || send.getAttribute("aria-busy")) return;
    const from = place;
    write("");
    send.setAttribute("aria-busy", "true");
    try {
      await (typed.startsWith("/") ? command(typed, to) : post("say", { ...to, text: outgoing(typed) }));
    } catch {
      if (place === from && !area.value) write(typed); // nothing that was written is lost
      else drafts.set(from, typed);
    } finally {
      send.removeAttribute("aria-busy");
    }
  }

  /** Put this text there, as if typed. */
  function write(text) {
    area.value = text;
    area.selectionStart = area.value.length;
    changed();
  }

  /** Show the composer of the place that is open now. */
  function show(label, key) {
    area.placeholder = label;
    area.setAttribute("aria-label", label);
    const next = `${state.me}/${key}`;
    if (next === place) return;
    place = next;
    face.replaceChildren(avatar(state.users.get(state.me) ?? { id: "", name: "?" }, "small"));
    write(drafts.get(place) ?? "");
  }

  return { node, show, write, focus: () => area.focus() };
}

async function command(typed, { channel, thread_ts }) {
  const name = typed.split(/\s/)[0];
  const text = typed.slice(name.length).trim();
  if (thread_ts) refuse(`${name} does not work inside a thread. Write it in the channel.`);
  if (!state.commands.some((each) => each.command === name)) {
    const known = state.commands.map((each) => each.command).join(", ");
    refuse(`${name} is not a command here. ${known ? `Known: ${known}.` : "No app has registered one: is the bot running?"}`);
  }
  await post("command", { channel, command: name, text });
  noteCommand(name);
}

function refuse(reason) {
  toast(reason);
  throw new Error(reason);
}
