// A menu that opens at a button (ARIA Authoring Practices, "Menu Button").

import { element } from "./text.js";

let close = () => {}; // Closes the open menu.

/**
 * Open a menu at `button`. `groups` are lists of `{label, act}`; a line separates two groups. Arrow
 * keys move, Escape and Tab close, and the focus returns to the button.
 */
export function openMenu(button, groups) {
  close();
  const list = element("div", "menu");
  list.role = "menu";
  for (const [at, group] of groups.filter((each) => each.length).entries()) {
    if (at > 0) {
      const line = element("div", "separator");
      line.role = "separator";
      list.append(line);
    }
    for (const { label, act } of group) {
      const item = element("div", "", label);
      item.role = "menuitem";
      item.tabIndex = -1;
      item.addEventListener("click", () => {
        close();
        act();
      });
      list.append(item);
    }
  }
  const isButton = button.tagName === "BUTTON"; // A message has a menu, too.
  const items = [...list.querySelectorAll("[role=menuitem]")];
  const outside = ({ target }) => list.contains(target) || close();
  list.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) items.at(to % items.length).focus();
    else if (event.key === "Enter" || event.key === " ") document.activeElement.click();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  close = () => {
    close = () => {};
    document.removeEventListener("pointerdown", outside, true);
    const had = list.contains(document.activeElement);
    list.remove();
    if (isButton) button.ariaExpanded = "false";
    if (had) (button.isConnected ? button : document.getElementById("input")).focus();
  };
  document.addEventListener("pointerdown", outside, true);
  // In the same landmark, and above the dialog if the button is in one.
  (button.closest("dialog, nav, header, main, aside") ?? document.body).append(list);
  if (isButton) {
    button.ariaHasPopup = "menu";
    button.ariaExpanded = "true";
  }
  const place = button.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left, innerWidth - list.offsetWidth - 8));
  const isRoom = place.bottom + list.offsetHeight < innerHeight;
  list.style.setProperty("left", `${left}px`);
  list.style.setProperty("top", `${isRoom ? place.bottom : Math.max(8, place.top - list.offsetHeight)}px`);
  items[0]?.focus();
}
