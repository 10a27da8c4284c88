// How far the first steps are: told by the messages, and by what was done from this browser.

import { authorOf, recall, remember, state } from "./state.js";

export const DISMISSED = "evenkeel/guide";
const DONE = `${DISMISSED}/done`;

/** Which of the three steps are done. */
export function progress() {
  const everything = [...state.messages.values()].flatMap((channel) => [...channel.values()]);
  const noted = recall(DONE, {});
  const role = (id) => state.users.get(id)?.role;
  const rated = (message) => (message.reactions ?? []).some((each) => /^[+-]1/.test(each.name) && each.users.some((id) => role(id) === "agent"));
  const asked = everything.some((message) => role(message.user) === "customer" && !message.subtype);
  return {
    asked,
    rated: asked && (Boolean(noted.rated) || everything.some((message) => authorOf(message).role === "bot" && rated(message))),
    retrained: asked && Boolean(noted.retrained),
  };
}

const note = (step) => remember(DONE, { ...recall(DONE, {}), [step]: true });

/** A click on an answer's thumbs by an agent is a rating. */
export function noteClick(kind) {
  if (kind === "feedback_buttons" && state.users.get(state.me)?.role === "agent") note("rated");
}

export function noteCommand(command) {
  if (command === "/retrain" && state.users.get(state.me)?.role === "admin") note("retrained");
}
