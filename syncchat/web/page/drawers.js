// The columns of rooms and of people, which are drawers over the messages where there is no space.

const NARROW = matchMedia("(max-width: 48rem), (max-width: 64rem) and (max-height: 30rem)"); // as in style.css

const at = (id) => document.getElementById(id);
const scrim = at("scrim");
// Each column with the button that opens it.
const columns = [[at("rooms"), at("rooms-open")], [at("people"), at("who")]];
let open = null; // The open drawer; null: none.

/** Close the drawer. The focus returns to its button, if it was inside. */
export function closeDrawer() {
  if (!open) return;
  const [column, button] = columns.find(([each]) => each === open);
  const had = column.contains(document.activeElement);
  open = null;
  show();
  if (had) button.focus();
}

/** The groups of a menu, whose items close the drawer first: what follows is outside. */
export function leaving(groups) {
  return groups.map((group) => group.map(({ label, act }) => ({
    label,
    act() {
      closeDrawer();
      act();
    },
  })));
}

function toggle(column) {
  if (!NARROW.matches) {
    column.classList.toggle("closed");
    show();
    return;
  }
  open = open === column ? null : column;
  show();
  if (open) (open.querySelector("[aria-current]") ?? open.querySelector("button")).focus();
}

function show() {
  scrim.hidden = !open;
  for (const each of document.body.children) each.inert = open !== null && each !== open && each !== scrim;
  for (const [column, button] of columns) {
    column.classList.toggle("open", column === open);
    const isShown = NARROW.matches ? column === open : !column.classList.contains("closed");
    button.setAttribute("aria-expanded", String(isShown));
  }
}

for (const [column, button] of columns) {
  button.addEventListener("click", () => toggle(column));
  column.querySelector(".close").addEventListener("click", closeDrawer);
}
scrim.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  closeDrawer();
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !open || event.defaultPrevented) return;
  event.preventDefault();
  closeDrawer();
});
NARROW.addEventListener("change", () => {
  open = null;
  show();
});
show();
