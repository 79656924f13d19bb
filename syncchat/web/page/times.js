// Moments for people, in the language and with the clock (12 or 24 hours) of the browser.

// To make a format takes the browser a thousand times as long as to use it.
const CLOCK = new Intl.DateTimeFormat([], { hour: "numeric", minute: "2-digit" });
const MOMENT = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat([], { weekday: "long", year: "numeric", month: "long", day: "numeric" });
const SHORT = new Intl.DateTimeFormat([], { dateStyle: "short", timeStyle: "short" });

function momentOf(seconds) {
  const moment = new Date(seconds * 1000);
  return Number.isNaN(moment.getTime()) ? null : moment;
}

/** The time of a message; it tells the message's number to those who point at it. */
export function timeOf(seconds, offset) {
  const moment = momentOf(seconds);
  if (!moment) return "";
  const shown = document.createElement("time");
  shown.textContent = CLOCK.format(moment);
  shown.dateTime = moment.toISOString();
  shown.title = `${MOMENT.format(moment)}${offset ? `, message ${offset}` : ""}`;
  return shown;
}

/** Hour and minute. */
export function clockText(seconds) {
  const moment = momentOf(seconds);
  return moment ? CLOCK.format(moment) : "";
}

/** A day, as a key to compare. */
export function dayOf(seconds) {
  return momentOf(seconds)?.toDateString() ?? "";
}

/** A day, for people. */
export function dayText(seconds) {
  const moment = momentOf(seconds);
  return moment ? DAY.format(moment) : "";
}

/** Day, hour and minute, in short. */
export function when(seconds) {
  const moment = momentOf(seconds);
  return moment ? SHORT.format(moment) : "";
}
