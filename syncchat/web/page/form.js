// Small dialogs that the page makes when they are needed.

import { element } from "./text.js";

const CROSS = "M6 6l12 12M18 6L6 18";
let made = 0; // How many elements have got an id.

/** Show a modal dialog of these children below its title. It is removed when it closes. */
export function openSheet(title, className, ...children) {
  const heading = element("h2", "", title);
  heading.id = `sheet-${(made += 1)}`;
  heading.append(closeButton());
  const dialog = element("dialog", `sheet ${className}`.trim(), element("div", "", heading, ...children));
  dialog.setAttribute("aria-labelledby", heading.id);
  return show(dialog);
}

/**
 * Ask for the values of `fields`: `{name, label, value, kind, choices, most}`. `kind` is "text",
 * "area" or "choice", `choices` are pairs of a value and a label. Resolves to the values by name; null
 * if the user does not want to go on.
 */
export function askForm(title, fields, agree) {
  const heading = element("h2", "", title);
  heading.id = `sheet-${(made += 1)}`;
  const cancel = element("button", "", "Cancel");
  cancel.type = "button";
  const form = element("form", "", heading, ...fields.map(fieldOf), element("div", "buttons", cancel, element("button", "main", agree)));
  form.method = "dialog";
  const dialog = element("dialog", "sheet", form);
  dialog.setAttribute("aria-labelledby", heading.id);
  return new Promise((resolve) => {
    let values = null;
    cancel.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", () => {
      values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    });
    dialog.addEventListener("close", () => resolve(values));
    show(dialog);
    form.elements[0].focus();
  });
}

/** Show a dialog, which a press beside it closes. The browser returns the focus; without its place, it goes to the input. */
export function show(dialog) {
  // A press, not a click: a selection of text may end outside.
  dialog.addEventListener("pointerdown", ({ target }) => target === dialog && dialog.close());
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (!opener.isConnected) document.getElementById("input").focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function fieldOf({ name, label, value = "", kind = "text", choices = [], most }) {
  const field = element({ text: "input", area: "textarea", choice: "select" }[kind]);
  field.name = name;
  if (kind === "choice") {
    for (const [each, shown] of choices) field.append(new Option(shown, each));
  } else {
    field.autocomplete = "off";
    if (most) field.maxLength = most;
  }
  if (kind === "area") field.rows = 4;
  if (value) field.value = value;
  return element("label", "", label, field);
}

function closeButton() {
  const button = element("button", "icon close", drawing(CROSS));
  button.type = "button";
  button.ariaLabel = "Close";
  button.addEventListener("click", () => button.closest("dialog").close());
  return button;
}

function drawing(path) {
  const space = "http://www.w3.org/2000/svg";
  const drawn = document.createElementNS(space, "svg");
  drawn.setAttribute("viewBox", "0 0 24 24");
  drawn.setAttribute("aria-hidden", "true");
  drawn.append(document.createElementNS(space, "path"));
  drawn.firstChild.setAttribute("d", path);
  return drawn;
}
