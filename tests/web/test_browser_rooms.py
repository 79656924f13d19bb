"""Several rooms on the page: unread counts, mentions, switching, and the last read mark."""

from __future__ import annotations

import json
import re
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from tests.peer import PATIENCE, wait_for
from tests.people import url_of
from tests.processes import SERVER, Script, ServerScript
from tests.web.pages import lines, page_url, say, wait_for_line
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


def followed(page: Page) -> list[str]:
    """The list of rooms: their names and counts, and ``*`` at the current one."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("#followed .room")].map((button) => {
          const [name, count] = button.children;
          return (button.ariaCurrent ? "*" : "") + name.textContent
            + (count.hidden ? "" : ` ${count.textContent}`);
        })"""
    )
    return found


def wait_for_rooms(page: Page, *wanted: str) -> None:
    wait_for(lambda: followed(page) == list(wanted))


def go(page: Page, room: str) -> None:
    page.get_by_role("navigation").get_by_role("button", name=re.compile(rf"^{room}\b")).click()
    page.get_by_role("heading", name=room, exact=True).wait_for()


def to_start(page: Page) -> int:
    """Scroll to the first message. Returns how many there are."""
    page.evaluate("document.getElementById('talk').scrollTop = 0")
    return page.locator("#log > .said").count()


def join(page: Page, *rooms: str) -> None:
    for room in rooms:
        say(page, f"/join {room}")
        wait_for_line(page, f"You are now in {room}.")


def test_three_rooms_with_traffic_lose_and_repeat_nothing(browser: Browser) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        rooms = ("lobby", "ops", "dev")
        wait_for_rooms(page, "*lobby")
        join(page, "ops", "dev")
        wait_for_rooms(page, "lobby", "ops", "*dev")
        sent = 0
        for current in rooms * 2:
            for _ in range(5):
                sent += 1
                for room in rooms:
                    chat.say(f"{room} {sent}.", room=room)
            go(page, current)
            wait_for_line(page, f"{current} {sent}.")
            assert lines(page) == [f"server: {current} {number}." for number in range(1, sent + 1)]
        wait_for_rooms(page, "lobby 5", "ops", "*dev")
        go(page, "lobby")
        wait_for_line(page, "5 new messages since your last visit.")
        mark = page.locator("#log .mark")
        mark.wait_for()
        assert mark.all_text_contents() == ["Last read: 5 new messages since your last visit"]
        # The mark stands in front of the first message that was not seen.
        after = page.locator("#log > .mark + .said").text_content() or ""
        assert after.endswith(f"lobby {sent - 4}.")
        # With the keyboard: the next room, and the next one with something new.
        chat.say("new", room="ops")
        wait_for_rooms(page, "*lobby", "ops 1", "dev")
        page.keyboard.press("Alt+ArrowUp")
        page.get_by_role("heading", name="dev", exact=True).wait_for()
        page.keyboard.press("Alt+Shift+ArrowDown")
        page.get_by_role("heading", name="ops", exact=True).wait_for()
        wait_for_rooms(page, "lobby", "*ops", "dev")


def test_what_is_said_while_the_user_switches_is_not_lost(browser: Browser) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="", rate=0) as chat,
        Client(url_of(chat), nick="bob") as bob,
        window(browser, page_url(chat), "ann") as page,
    ):
        join(page, "ops")
        for number in range(1, 301):
            bob.say(f"line {number}.")
            if number % 30 == 0:
                go(page, "lobby" if number % 60 else "ops")
        bob.flush(PATIENCE)
        go(page, "lobby")
        wait_for_line(page, "line 300.")
        wait_for(lambda: to_start(page) == 300)
        assert lines(page) == [f"bob: line {number}." for number in range(1, 301)]


def test_mentions_and_counts_survive_a_reload(browser: Browser) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        join(page, "ops")
        chat.say("well", room="lobby")
        chat.say("<b>Ann</b>: come here", room="lobby")
        wait_for_line(page, "[lobby] server: <b>Ann</b>: come here")
        assert page.locator("#log .elsewhere mark").all_text_contents() == ["Ann"]
        wait_for_rooms(page, "lobby @2", "*ops")
        label = "lobby 2 unread, one mentions you"
        page.get_by_role("button", name=label).wait_for()
        page.reload()
        wait_for_rooms(page, "lobby @2", "*ops")
        # As long as the page is away, the counts go on.
        page.goto("about:blank")
        chat.say("in ops", room="ops")
        chat.say("in the lobby", room="lobby")
        page.goto(page_url(chat, "/ops"))
        wait_for_line(page, "1 new message since your last visit.")
        wait_for_rooms(page, "lobby @3", "*ops")
        go(page, "lobby")
        wait_for_rooms(page, "*lobby", "ops")
        say(page, "/part")
        page.get_by_role("heading", name="ops", exact=True).wait_for()
        wait_for_rooms(page, "*ops")
        chat.say("nobody counts this", room="lobby")
        chat.say("the end", room="ops")
        wait_for_line(page, "the end")
        page.reload()
        wait_for_line(page, "the end")
        wait_for_rooms(page, "*ops")


def test_what_is_shown_to_nobody_stays_unread(browser: Browser) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        page.evaluate("document.hasFocus = () => false")
        chat.say("nobody looks")
        wait_for_line(page, "nobody looks")
        page.reload()
        wait_for_line(page, "1 new message since your last visit.")
        page.reload()
        wait_for_line(page, "nobody looks")
        assert page.locator("#log", has_text="since your last visit").count() == 0


def test_more_than_the_last_200_are_loaded_by_scrolling(browser: Browser) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        chat.say("seen")
        wait_for_line(page, "seen")
        join(page, "ops")
        for number in range(1, 351):
            chat.say(f"line {number}.")
        wait_for_rooms(page, "lobby 350", "*ops")
        go(page, "lobby")
        wait_for_line(page, "350 new messages since your last visit. Scroll up")
        wait_for_line(page, "line 151.")
        assert lines(page)[0] == "server: line 151."
        assert page.locator("#log .mark").count() == 0
        wait_for(lambda: to_start(page) == 351)
        assert lines(page) == ["server: seen", *(f"server: line {n}." for n in range(1, 351))]
        assert (page.locator("#log > .mark + .said").text_content() or "").endswith("line 1.")


def test_counts_are_exact_over_restarts_of_the_server(browser: Browser, tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path / 'chat.db'}", "--no-notices", "--rate", "0"]
    with ExitStack() as stack:
        server = stack.enter_context(ServerScript(*flags))
        page = stack.enter_context(window(browser, page_url(server), "ann"))
        join(page, "ops", "dev")
        bob = stack.enter_context(Client(server.url, nick="bob"))
        carla = stack.enter_context(Client(f"{server.url}ops", nick="carla"))
        said = 0
        process: Script = server
        for _ in range(3):
            for _ in range(4):
                said += 1
                bob.say(f"lobby {said}.")
                carla.say(f"ops {said}.")
                carla.say(f"ops and {said}.")
            bob.flush(PATIENCE)
            carla.flush(PATIENCE)
            process.signal(signal.SIGKILL)
            process.exit_code()
            # Said during the break.
            said += 1
            for client, text in ((bob, "lobby"), (carla, "ops"), (carla, "ops and")):
                client.say(f"{text} {said}.")
            process = stack.enter_context(Script([*SERVER, "--port", str(server.port), *flags]))
            process.wait_for_line("listening .*")
            bob.flush(PATIENCE)
            carla.flush(PATIENCE)
            wait_for_rooms(page, f"lobby {said}", f"ops {2 * said}", "*dev")
        go(page, "ops")
        wait_for_line(page, f"ops and {said}.")
        assert lines(page) == [
            f"carla: {text} {number}."
            for number in range(1, said + 1)
            for text in ("ops", "ops and")
        ]
        wait_for_rooms(page, f"lobby {said}", "*ops", "dev")


def test_what_others_write_into_the_storage_is_harmless(browser: Browser) -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        for room, value in [
            ("a", "{"),
            ("b", json.dumps({"epoch": "<b>", "seen": 1, "watched": True})),
            ("c", json.dumps({"epoch": "e", "seen": -1, "watched": True})),
            ("d", json.dumps({"epoch": "e", "seen": "1", "watched": True})),
            ("e", "null"),
            ("<i>f</i>", json.dumps({"epoch": "e", "seen": 1, "watched": True})),
        ]:
            page.evaluate("([key, value]) => localStorage.setItem(key, value)",
                          [f"syncchat.room /{room}", value])  # fmt: skip
        page.reload()
        wait_for_rooms(page, "<i>f</i>", "*lobby")
        # The server has no such room.
        wait_for_line(page, "A room's name")
        chat.say("all is well")
        wait_for_line(page, "all is well")
