// The wiring of the header and of the columns: their buttons, their keys, and their lists.

import { go } from "./actions.js";
import { closeDrawer } from "./drawers.js";
import { currentRoomMenu, listedRoomMenu, personMenu } from "./frame_menus.js";
import { openMenu } from "./menu.js";
import { People } from "./people.js";
import { PeopleList } from "./people_list.js";
import { RoomList } from "./room_list.js";
import { Rooms } from "./rooms.js";
import { openSearch } from "./search.js";
import { openSettings } from "./settings_dialog.js";
import { openSwitcher } from "./switcher.js";

const at = (id) => document.getElementById(id);

/** Make the rooms and the people of `page` (app.js), and their lists. */
export function makeLists(page) {
  const roomList = new RoomList({
    choose(room) {
      go(page, room);
      closeDrawer();
      page.composer.focus();
    },
    actions: (room) => listedRoomMenu(page, room),
  });
  page.rooms = new Rooms(page.address.base, {
    report: (room, place) => page.link.welcome?.person && page.link.ask({ type: "seen", room, place }),
    show: () => roomList.show(page.rooms),
  });
  page.people = new People({
    show: () => peopleList.show(),
    actionsFor: (nick) => personMenu(page, nick),
  });
  const peopleList = new PeopleList({ people: page.people, own: () => page.link?.called });
  page.rooms.show(); // Those of the last visit, before there is a connection.
}

/** Let the buttons of the header and the keys of the page do something. */
export function wireFrame(page) {
  const onClick = (id, act) => at(id).addEventListener("click", act);
  const jump = () => {
    closeDrawer();
    openSwitcher(page);
  };
  onClick("switch", jump);
  onClick("join", jump);
  onClick("room-menu", () => page.rooms.current !== null && openMenu(at("room-menu"), currentRoomMenu(page)));
  onClick("settings-open", () => openSettings(page));
  onClick("search-open", () => openSearch(page));
  addEventListener("keydown", (event) => {
    const { altKey, ctrlKey, metaKey, shiftKey, key } = event;
    if ((ctrlKey || metaKey) && !altKey && !shiftKey && key.toLowerCase() === "k") jump();
    else if (altKey && !ctrlKey && !metaKey && ["ArrowDown", "ArrowUp"].includes(key)) {
      go(page, page.rooms.next(key === "ArrowDown" ? 1 : -1, shiftKey));
    } else return;
    event.preventDefault();
  });
}
