// The emoji picker: six at once, the rest by search, a skin tone for hands. Knows no message.

import { h } from "./dom.js";
import { QUICK, emoji, search, toned } from "./emoji.js";
import { popover } from "./notices.js";
import { recall, remember } from "./state.js";

const TONE = "evenkeel/tone";

/** Open it beside `anchor`; `chosen(name)` is called once with Slack's name. */
export function pickEmoji(anchor, chosen) {
  let tone = recall(TONE, 1);
  popover(anchor, "Choose an emoji", (close) => {
    const take = (name) => { close(); chosen(toned(name, tone)); };
    const button = (name) => h("button", { type: "button", class: "emoji-button", title: `:${name}:`, testid: `emoji-${name}`, "aria-label": name.replaceAll("_", " "), on: { click: () => take(name) } }, emoji(toned(name, tone)));
    const quick = h("div", { class: "picker-quick" });
    const grid = h("div", { class: "picker-grid" });
    const field = h("input", { type: "search", class: "input", placeholder: "Search emoji", "aria-label": "Search emoji", testid: "emoji-search", on: {
      input: () => show(), keydown: (event) => { if (event.key === "Enter") grid.querySelector("button")?.click(); },
    } });
    const show = () => {
      quick.replaceChildren(...QUICK.map(button));
      quick.hidden = Boolean(field.value);
      const names = search(field.value).filter((name) => field.value || !QUICK.includes(name));
      grid.replaceChildren(...(names.length ? names.map(button) : [h("p", { class: "quiet" }, "No emoji by that name.")]));
    };
    const tones = h("div", { class: "picker-tones", role: "group", "aria-label": "Skin tone" }, [1, 2, 3, 4, 5, 6].map((each) => h("button", {
      type: "button", class: "emoji-button", "aria-pressed": String(each === tone), "aria-label": each === 1 ? "No skin tone" : `Skin tone ${each}`, testid: `tone-${each}`,
      on: { click: (event) => {
        tone = each;
        remember(TONE, each);
        for (const sibling of event.currentTarget.parentElement.children) sibling.setAttribute("aria-pressed", String(sibling === event.currentTarget));
        show();
      } },
    }, emoji(toned("raised_hand", each)))));
    show();
    return [field, quick, grid, tones];
  }, { class: "popover picker", testid: "picker" });
}
