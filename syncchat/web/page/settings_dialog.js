// The dialog of the settings, and the list of the keys.

import { act } from "./actions.js";
import { openSheet } from "./form.js";
import { ring, turnOn } from "./notifier.js";
import { ignore, set, setting } from "./settings.js";
import { element } from "./text.js";
import { forgetToken, tokenKept } from "./token.js";

const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };
const BELLS = { off: "Never", mention: "For mentions and private messages", all: "For every message" };
const KEYS = [
  ["Ctrl K", "go to a room or a person; on a Mac also ⌘ K"],
  ["Alt ↑  Alt ↓", "previous or next room; with Shift, one with something new"],
  ["Enter", "send"],
  ["Shift Enter", "new line"],
  ["Tab", "complete a nick, a room or a command"],
  ["/", "begin a command; /help lists them"],
  ["Esc", "close what is open"],
];
let made = 0; // How many elements have got an id.

/** Open the dialog. `page` has the parts of the page (app.js). */
export function openSettings(page) {
  openSheet("Settings", "settings", themes(), choices(), highlights(), ignored(), you(page), keys());
}

function themes() {
  const fieldset = element("fieldset", "", element("legend", "", "Theme"));
  for (const [theme, label] of Object.entries(THEMES)) {
    const radio = choice("radio", setting("theme") === theme, label, () => set("theme", theme));
    radio.firstChild.name = "theme";
    fieldset.append(radio);
  }
  return fieldset;
}

function choices() {
  const said = element("p", "hint");
  said.setAttribute("role", "status");
  const notify = choice("checkbox", setting("notify") && "Notification" in window && Notification.permission === "granted",
    "Notify me of mentions and private messages", async (on) => {
      said.textContent = "";
      if (!on) return set("notify", false);
      const answer = "Notification" in window ? await turnOn() : "denied";
      notify.firstChild.checked = answer === "granted";
      if (answer !== "granted") said.textContent = "The browser does not let this page notify you: that needs HTTPS, and your permission in its settings.";
      return undefined;
    });
  const fieldset = element("fieldset", "", element("legend", "", "Messages"),
    choice("checkbox", setting("times"), "Show the time of each message", (on) => set("times", on)),
    notify, bells());
  fieldset.classList.add("lines");
  return element("div", "", fieldset, said);
}

function bells() {
  const field = element("select");
  for (const [value, label] of Object.entries(BELLS)) field.append(new Option(label, value));
  field.value = setting("bell");
  field.addEventListener("change", () => {
    set("bell", field.value);
    if (field.value !== "off") ring();
  });
  return element("label", "beside", "Sound", field);
}

function highlights() {
  const field = element("input");
  field.value = setting("highlights").join(", ");
  field.autocomplete = "off";
  field.addEventListener("change", () => {
    set("highlights", [...new Set(field.value.split(",").map((word) => word.trim()).filter(Boolean))]);
    field.value = setting("highlights").join(", ");
  });
  const label = element("label", "", "Words that count as mentions, besides your nick", field);
  return element("div", "", label, hint("Put commas between them.", field));
}

function ignored() {
  const list = element("ul", "chips");
  const box = element("div", "", element("h3", "", "Ignored people"), list);
  const draw = () => {
    const nicks = setting("ignored");
    list.hidden = !nicks.length;
    list.replaceChildren(...nicks.map((nick) => {
      const button = element("button", "", `${nick} ✕`);
      button.type = "button";
      button.ariaLabel = `Stop ignoring ${nick}`;
      button.addEventListener("click", () => {
        ignore(nick, false);
        draw();
        (list.querySelector("button") ?? box.closest("dialog").querySelector("button")).focus();
      });
      return element("li", "", button);
    }));
  };
  draw();
  box.hidden = list.hidden;
  return box;
}

function you(page) {
  const field = element("input");
  field.value = page.link?.called ?? "";
  field.autocomplete = "nickname";
  field.spellcheck = false;
  field.maxLength = page.link?.welcome?.limits.nick ?? 32;
  const change = element("button", "", "Change");
  const form = element("form", "row", element("label", "", "Your nick", field), change);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const nick = field.value.trim();
    if (nick && nick !== page.link?.called && act(page, { type: "nick", nick })) form.closest("dialog").close();
  });
  if (!tokenKept()) return form;
  const forget = element("button", "", "Forget the token");
  forget.type = "button";
  forget.addEventListener("click", () => {
    forgetToken();
    location.reload();
  });
  return element("div", "", form, element("p", "row", forget));
}

function keys() {
  const rows = KEYS.map(([pressed, help]) => {
    const name = element("th", "", element("kbd", "", pressed));
    name.scope = "row";
    return element("tr", "", name, element("td", "", help));
  });
  return element("div", "keys", element("h3", "", "Keyboard shortcuts"), element("table", "", element("tbody", "", ...rows)));
}

/** A labelled checkbox or radio button. `changed(checked)` is called when the user changes it. */
function choice(type, checked, label, changed) {
  const field = element("input");
  Object.assign(field, { type, checked });
  field.addEventListener("change", () => changed(field.checked));
  return element("label", "choice", field, label);
}

/** A text that explains a field. */
function hint(text, field) {
  const shown = element("p", "hint", text);
  shown.id = `hint-${(made += 1)}`;
  field.setAttribute("aria-describedby", shown.id);
  return shown;
}
