// Moments as people read them, by the browser's language. Making a format takes long, so each is made once.

const TIME = new Intl.DateTimeFormat([], { hour: "numeric", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat([], { weekday: "long", year: "numeric", month: "long", day: "numeric" });
const MOMENT = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });
const SHORT = new Intl.DateTimeFormat([], { dateStyle: "short", timeStyle: "short" });

let dayShown = "", dayBegin = 0, dayEnd = 0; // The last day that was asked for.

/** The Date of a moment in seconds since 1970; null: it is none. */
export function dateOf(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? null : date;
}

export const timeText = (date) => TIME.format(date);
export const momentText = (date) => MOMENT.format(date);

/** A moment in seconds since 1970, for a sentence. */
export function when(seconds) {
  const date = dateOf(seconds);
  return date ? SHORT.format(date) : "an unknown time";
}

export function dayText(date) {
  const at = date.getTime();
  if (at < dayBegin || at >= dayEnd) {
    dayBegin = new Date(date).setHours(0, 0, 0, 0);
    const next = new Date(dayBegin);
    dayEnd = next.setDate(next.getDate() + 1);
    dayShown = DAY.format(date);
  }
  return dayShown;
}
