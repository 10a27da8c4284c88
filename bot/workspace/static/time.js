// Slack's ts as people read it. Knows nothing else.

const WITHIN_MS = 5 * 60 * 1000;
const at = (ts) => new Date(Number(ts) * 1000);

export const clock = (ts) => at(ts).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const whole = (ts) => at(ts).toLocaleString("en", { weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
export const near = (a, b) => Math.abs(at(a) - at(b)) < WITHIN_MS;
export const dayOf = (ts) => at(ts).toDateString();

/** Today, Yesterday, or the day by name. */
export function dayName(ts, now = new Date()) {
  const days = Math.round((new Date(now.toDateString()) - new Date(dayOf(ts))) / 864e5);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return at(ts).toLocaleDateString("en", { weekday: "long", day: "numeric", month: "long", ...(days > 300 ? { year: "numeric" } : {}) });
}

/** How long ago, roughly, for "last reply". */
export function ago(ts, now = Date.now()) {
  const minutes = Math.floor((now - at(ts)) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return dayName(ts);
}
