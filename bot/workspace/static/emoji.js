// Emoji by Slack's names: the character, the picture, the search, the skin tones. Knows no message and no server.

import { h } from "./dom.js";
import { glyph, isDrawn } from "./glyphs.js";

const COMMON = `
+1 👍 thumbsup yes good like|-1 👎 thumbsdown no bad dislike|white_check_mark ✅ done ok correct|x ❌ wrong cross no|heart ❤️ love red|eyes 👀 look watching
tada 🎉 party hooray|pray 🙏 thanks please|clap 👏 applause|raised_hands 🙌 hooray|wave 👋 hello bye|ok_hand 👌 fine|muscle 💪 strong|point_up ☝️ one|point_right 👉|point_left 👈|raised_hand ✋ stop|handshake 🤝 deal|writing_hand ✍️
slightly_smiling_face 🙂 smile|smile 😄 happy|grin 😁|joy 😂 laugh tears|sweat_smile 😅|wink 😉|blush 😊|heart_eyes 😍|thinking_face 🤔 thinking hmm|neutral_face 😐|confused 😕|disappointed 😞|cry 😢 sad|sob 😭|angry 😠|rage 😡|scream 😱|sleeping 😴|sunglasses 😎 cool|face_with_rolling_eyes 🙄|partying_face 🥳|upside_down_face 🙃|zany_face 🤪|facepalm 🤦|shrug 🤷
fire 🔥 hot|rocket 🚀 ship launch|sparkles ✨ new|star ⭐|star2 🌟|bulb 💡 idea|zap ⚡ fast|boom 💥|100 💯 hundred|trophy 🏆 win|medal 🏅|dart 🎯 target|gift 🎁|balloon 🎈
warning ⚠️ careful|no_entry ⛔ stop refused|no_entry_sign 🚫|octagonal_sign 🛑 stop|rotating_light 🚨 alarm|bangbang ‼️|question ❓|exclamation ❗|heavy_check_mark ✔️|ballot_box_with_check ☑️|heavy_multiplication_x ✖️|red_circle 🔴|large_orange_circle 🟠|large_yellow_circle 🟡|large_green_circle 🟢|large_blue_circle 🔵|white_circle ⚪|black_circle ⚫
hourglass_flowing_sand ⏳ wait running|hourglass ⌛|stopwatch ⏱️ time|alarm_clock ⏰|calendar 📆|arrows_counterclockwise 🔄 retrain again|recycle ♻️|leftwards_arrow_with_hook ↩️ rollback undo|arrow_right ➡️|arrow_left ⬅️|arrow_up ⬆️|arrow_down ⬇️|arrow_upper_right ↗️|arrow_lower_right ↘️
robot_face 🤖 bot|brain 🧠|gear ⚙️|wrench 🔧|hammer_and_wrench 🛠️|mag 🔍 search|memo 📝 note write|pencil2 ✏️ edit correct|bookmark_tabs 📑|page_facing_up 📄|file_folder 📁|clipboard 📋|pushpin 📌|paperclip 📎|link 🔗|lock 🔒|unlock 🔓|key 🔑 password|shield 🛡️|bell 🔔|mega 📣|speech_balloon 💬|email 📧|inbox_tray 📥|outbox_tray 📤|package 📦|chart_with_upwards_trend 📈 up|chart_with_downwards_trend 📉 down|bar_chart 📊|balance_scale ⚖️|microscope 🔬|test_tube 🧪|books 📚|mortar_board 🎓 learn|seedling 🌱|ship 🚢|sailboat ⛵ boat|anchor ⚓|ocean 🌊|compass 🧭|globe_with_meridians 🌐|sunny ☀️|coffee ☕|pizza 🍕|cake 🍰|beers 🍻|dog 🐶|cat 🐱|bug 🐛|snail 🐌|turtle 🐢|moneybag 💰|credit_card 💳|computer 💻|iphone 📱|telephone_receiver 📞|wastebasket 🗑️`;

const ALIAS = { thumbsup: "+1", thumbsdown: "-1", thinking: "thinking_face", robot: "robot_face", hand: "raised_hand", green_circle: "large_green_circle", check: "white_check_mark", party_popper: "tada", scales: "balance_scale", hourglass_not_done: "hourglass_flowing_sand", heavy_check: "heavy_check_mark" };
const TONED = new Set(["+1", "-1", "pray", "clap", "raised_hands", "wave", "ok_hand", "muscle", "point_up", "point_right", "point_left", "raised_hand", "writing_hand", "facepalm", "shrug"]);
const TONES = ["", "", "🏻", "🏼", "🏽", "🏾", "🏿"];

/** The six that are one click away. */
export const QUICK = ["+1", "-1", "white_check_mark", "x", "heart", "eyes"];

const ENTRIES = COMMON.trim().split(/[|\n]/).map((line) => {
  const [name, char, ...words] = line.trim().split(" ");
  return { name, char, words: [name.replaceAll("_", " "), ...words].join(" ") };
});
const BY_NAME = new Map(ENTRIES.map((entry) => [entry.name, entry]));
const BY_CHAR = new Map(ENTRIES.map((entry) => [bare(entry.char), entry.name]));

function bare(char) {
  return char.replaceAll("\uFE0F", "");
}

/** The name without its tone and alias, and the tone from 1 to 6. */
export function parts(full) {
  const [name, tone] = full.split("::skin-tone-");
  return { name: ALIAS[name] ?? name, tone: Number(tone ?? 1) };
}

export function isEmoji(full) {
  return BY_NAME.has(parts(full).name);
}

/** The name as it is sent to Slack, with a skin tone where the emoji has one. */
export function toned(name, tone) {
  return tone > 1 && TONED.has(name) ? `${name}::skin-tone-${tone}` : name;
}

/** The name of the emoji character at the start of `text` and its length, or null. */
export function emojiAt(text) {
  const found = /^(?:\p{Extended_Pictographic}|[\u2600-\u27BF])\uFE0F?(\p{Emoji_Modifier})?/u.exec(text);
  const name = found && BY_CHAR.get(bare(found[0]).replace(/\p{Emoji_Modifier}/u, ""));
  if (!name) return null;
  const tone = found[1] ? TONES.indexOf(found[1]) : 1;
  return { full: toned(name, tone), length: found[0].length };
}

/** The picture of an emoji: our drawing, else the machine's character, else its name in colons. */
export function emoji(full) {
  const { name, tone } = parts(full);
  const entry = BY_NAME.get(name);
  const label = `:${full}:`;
  if (isDrawn(name)) return glyph(name, tone in TONES ? tone : 1, label);
  if (entry && supported(entry.char)) {
    const char = tone > 1 && TONED.has(name) ? bare(entry.char) + TONES[tone] : entry.char;
    return h("span", { class: "emoji", role: "img", "aria-label": label, title: label }, char);
  }
  return h("span", { class: "emoji-name" }, label);
}

/** Emoji whose name or words hold the query, those that start with it first; only what this machine can show. */
export function search(query, limit = 200) {
  const wanted = query.trim().toLowerCase().replaceAll("_", " ").replace(/^:|:$/g, "");
  const hits = ENTRIES.filter((entry) => entry.words.includes(wanted) && (isDrawn(entry.name) || coloured(entry.char)));
  if (wanted) hits.sort((a, b) => b.words.startsWith(wanted) - a.words.startsWith(wanted));
  return hits.slice(0, limit).map((entry) => entry.name);
}

const seen = new Map();
let missing;

/** Whether this machine has a picture for the character: it differs from what an unassigned one looks like. */
function supported(char) {
  missing ??= picture("\u{10FFFE}").join();
  if (!seen.has(char)) seen.set(char, picture(char));
  return seen.get(char).join() !== missing;
}

/** Whether that picture has colours: a line drawing of a text font would look lost in the picker. */
function coloured(char) {
  return supported(char) && seen.get(char).some((value, at) => at % 4 < 3 && value > 0);
}

function picture(char) {
  const canvas = h("canvas", { width: 24, height: 24 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.font = "16px sans-serif";
  pen.textBaseline = "top";
  pen.fillText(char, 2, 2);
  return pen.getImageData(0, 0, 24, 24).data;
}
