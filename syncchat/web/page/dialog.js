// The panel in which a user joins: the name, and the token if the server requires one. start.js
// shows it on a first visit, before this module has come.

import { wrongName } from "./nick.js";
import { wrongToken } from "./token.js";

const at = (id) => document.getElementById(id);
const dialog = at("ask"), form = dialog.querySelector("form");
const PARTS = {
  name: { part: at("name-part"), field: at("answer"), complaint: at("complaint"), wrong: wrongName },
  token: { part: at("token-part"), field: at("token"), complaint: at("token-complaint"), wrong: wrongToken },
};

let asking = null; // The promise of the answer, while the panel is open, and its function.
let resolve = () => {};

/**
 * Ask the user for a name, a token or both, with a complaint about the last answer. While the panel
 * is open, it asks for this in addition. Resolves to `{name, token}`; without a name or a token if
 * it is not asked for.
 */
export function ask({ name = false, token = false, complaints = {} }) {
  const early = asking === null && dialog.returnValue === "join"; // Before the module had come.
  if (asking === null && !dialog.open && !early) for (const { part } of Object.values(PARTS)) part.hidden = true;
  PARTS.name.part.hidden &&= !name;
  PARTS.token.part.hidden &&= !token;
  for (const [which, text] of Object.entries(complaints)) complain(which, text);
  asking ??= new Promise((done) => { resolve = done; });
  const answer = asking;
  if (early && check()) finish();
  else if (!dialog.open) dialog.showModal();
  const wanted = Object.values(PARTS).find(({ part, complaint }) => !part.hidden && complaint.textContent) ?? (name ? PARTS.name : PARTS.token);
  if (dialog.open && (Object.keys(complaints).length || !dialog.contains(document.activeElement))) wanted.field.select();
  return answer;
}

/** Whether the panel asks the user for something. */
export const isAsking = () => asking !== null;

function complain(which, text) {
  const { field, complaint } = PARTS[which];
  complaint.textContent = text;
  field.ariaInvalid = text ? "true" : null;
}

/** The answer to a part that is asked for; undefined: it is not. */
function answerTo(which) {
  const { part, field } = PARTS[which];
  return part.hidden ? undefined : field.value.trim();
}

/** Complain about wrong answers. Returns whether there are none. */
function check() {
  const token = answerTo("token");
  let right = true;
  for (const [which, { part, field, wrong }] of Object.entries(PARTS)) {
    const text = part.hidden ? "" : wrong(field.value.trim(), { token });
    complain(which, text);
    if (text && right) field.focus();
    if (text) right = false;
  }
  return right;
}

function finish() {
  dialog.returnValue = "";
  const answer = { name: answerTo("name"), token: answerTo("token") };
  asking = null;
  PARTS.token.field.value = "";
  resolve(answer);
}

form.addEventListener("submit", (event) => {
  if (!check()) event.preventDefault();
});
dialog.addEventListener("cancel", (event) => event.preventDefault());
dialog.addEventListener("close", () => {
  // A browser closes a dialog at the second Escape, even if "cancel" is prevented.
  if (dialog.returnValue !== "join" || !check()) dialog.showModal();
  else if (asking) finish();
});
