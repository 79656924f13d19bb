// The dialog that asks the user for a nick or a token.

const at = (id) => document.getElementById(id);

/** Ask the user a question, until `wrong(answer)` returns no complaint. */
export function ask(question, { kind = "text", complaint = "", wrong = () => "" } = {}) {
  const dialog = at("ask"), field = at("answer");
  at("question").textContent = question;
  at("complaint").textContent = complaint;
  field.type = kind;
  field.value = "";
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    form.onsubmit = (event) => {
      at("complaint").textContent = wrong(field.value.trim());
      if (at("complaint").textContent) event.preventDefault();
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => {
      // A browser closes a dialog at the second Escape, even if "cancel" is prevented.
      if (dialog.returnValue !== "agree" || wrong(field.value.trim())) dialog.showModal();
      else resolve(field.value.trim());
    };
    dialog.returnValue = "";
    dialog.showModal();
    field.select();
  });
}
