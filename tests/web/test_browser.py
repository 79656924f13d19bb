"""The chat in a real browser."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from tests.peer import PATIENCE, wait_for
from tests.people import Plain, url_of
from tests.processes import SERVER, Script, ServerScript, Terminal
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser
from tests.web.pages import lines, page_url, say, wait_for_line

pytestmark = pytest.mark.slow


# Messages.


def test_browsers_a_terminal_and_a_plain_client_are_in_one_room(browser: Browser) -> None:
    with ServerScript("--no-notices", "--greeting", "", "--rate", "0") as server:
        room = page_url(server, "/kitchen")
        with (
            window(browser, room, "ann") as ann,
            window(browser, room, "bob") as bob,
            Terminal(f"{server.url}kitchen", "--nick", "carla") as carla,
            Plain(f"{server.url}kitchen?nick=dora") as dora,
        ):
            carla.wait_for_last(".*connected.*")
            say(ann, "from a page")
            assert dora.hear() == "ann: from a page"
            carla.type("from a terminal\r")
            assert dora.hear() == "carla: from a terminal"
            dora.send("from anything")
            wait_for_line(bob, "from anything")
            say(bob, "/me reads")
            wanted = [
                "ann: from a page",
                "carla: from a terminal",
                "dora: from anything",
                "** bob reads",
            ]
            for page in (ann, bob):
                wait_for_line(page, "bob reads")
                assert lines(page) == wanted
            for line in wanted:
                carla.wait_for_line(re.escape(line))


def test_a_restarted_server_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path / 'chat.db'}", "--no-notices", "--rate", "0"]
    with ExitStack() as stack:
        server = stack.enter_context(ServerScript(*flags))
        ann = stack.enter_context(window(browser, page_url(server), "ann"))
        say(ann, "before")
        wait_for_line(ann, "before")
        server.signal(signal.SIGKILL)
        server.exit_code()
        ann.locator("#state", has_text="reconnecting").wait_for()
        say(ann, "during")
        say(ann, "and this")
        ann.get_by_role("list", name="Not delivered yet").get_by_text("and this").wait_for()
        assert ann.locator("#state").text_content() is not None
        again = stack.enter_context(Script([*SERVER, "--port", str(server.port), *flags]))
        again.wait_for_line("listening .*")
        with Client(server.url, nick="bob") as bob:
            bob.say("while you were away")
            bob.flush(PATIENCE)
        for text in ("during", "and this", "while you were away"):
            wait_for_line(ann, text)
        ann.locator("#waiting > li").first.wait_for(state="detached")
        assert sorted(lines(ann)) == [
            "ann: and this",
            "ann: before",
            "ann: during",
            "bob: while you were away",
        ]
        assert lines(ann).index("ann: during") < lines(ann).index("ann: and this")


def test_rooms_people_and_commands(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Client(url_of(chat, "/ops"), nick="bob") as bob,
        window(browser, page_url(chat), "ann") as page,
    ):
        say(page, "/join ops")
        wait_for_line(page, "You are now in ops.")
        assert page.url == page_url(chat, "/ops")
        page.get_by_role("heading", name="ops").wait_for()
        page.get_by_role("complementary").get_by_text("bob").wait_for()
        page.get_by_role("button", name="2 here").wait_for()
        for line, answer in [
            ("/names", "2 connected"),
            ("/rooms", "Rooms: "),
            ("/whois bob", "bob has been here since"),
            ("/msg bob psst", "to bob: psst"),
            ("/away lunch", "ann is away: lunch"),
            ("/back", "ann is back."),
            ("/help", "/whois NAME"),
            ("/nonsense", "Unknown command /nonsense."),
        ]:
            say(page, line)
            wait_for_line(page, answer)
        page.get_by_role("textbox").fill("")
        bob.send_line("/msg ann secret")
        wait_for_line(page, "from bob: secret")
        say(page, "/reply yes")
        wait_for_line(page, "to bob: yes")
        page.reload()
        page.get_by_role("heading", name="ops").wait_for()


def test_a_room_has_one_url_in_any_spelling(browser: Browser) -> None:
    """Issue 13, item 18: the page uses the server's name for the room."""
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        window(browser, page_url(chat, "/%23OPS"), "ann") as page,
    ):
        page.get_by_role("heading", name="ops", exact=True).wait_for()
        assert page.url == page_url(chat, "/ops")
        say(page, "/join #Kitchen")
        wait_for_line(page, "You are now in kitchen.")
        assert page.url == page_url(chat, "/kitchen")
        chat.say("hello", room="orchard")
        box = page.get_by_role("textbox")
        box.fill("/join #ORC")
        box.press("Tab")
        wait_for(lambda: box.input_value() == "/join orchard")
        say(page, "/join a b")
        wait_for_line(page, "A room's name must be one word without blanks.")
        page.go_back()
        wait_for_line(page, "You are now in ops.")
        assert page.url == page_url(chat, "/ops")


def test_history_is_shown_and_scrolling_loads_more(browser: Browser) -> None:
    with ChatServer(port=0, greeting="", notices=False) as chat:
        for number in range(1, 181):
            chat.say(f"message {number}.")
        with window(browser, page_url(chat), "ann") as page:
            wait_for_line(page, "message 180.")
            assert lines(page) == [f"server: message {number}." for number in range(131, 181)]
            say(page, "/history")
            wait_for_line(page, "message 81.")
            page.get_by_label("Messages", exact=True).focus()
            for first in (31, 1):
                page.keyboard.press("Home")
                page.keyboard.press("Home")
                wait_for_line(page, f"message {first}.")
            assert lines(page) == [f"server: message {number}." for number in range(1, 181)]


def test_history_is_loaded_without_a_scroll_bar(browser: Browser) -> None:
    with ChatServer(port=0, greeting="", notices=False) as chat:
        for number in range(1, 91):
            chat.say(f"message {number}.")
            chat.say(f"in ops {number}.", room="ops")
        with window(browser, page_url(chat), "ann", 900, 3000) as page:
            wait_for_line(page, "message 1.")
            say(page, "/join ops")
            wait_for_line(page, "in ops 1.")
            assert lines(page) == [f"server: in ops {number}." for number in range(1, 91)]
            assert page.locator("#log > .day").count() == 1
            page.go_back()
            page.get_by_role("heading", name="lobby").wait_for()
            wait_for_line(page, "message 1.")
            page.go_forward()
            page.get_by_role("heading", name="ops").wait_for()
            assert page.url == page_url(chat, "/ops")


def test_a_new_log_is_not_mixed_with_the_old_one(browser: Browser) -> None:
    with ExitStack() as stack:
        with ChatServer(port=0, greeting="", notices=False) as chat:
            port = chat.port
            for number in range(80):
                chat.say(f"old {number}.")
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
            wait_for_line(page, "old 79.")
        anew = stack.enter_context(ChatServer(port=port, greeting="", notices=False))
        for number in range(40):
            anew.say(f"new {number}.")
        wait_for_line(page, "new 39.")
        page.get_by_label("Messages", exact=True).focus()
        page.keyboard.press("Home")
        anew.say("the end")
        page.keyboard.press("End")
        wait_for_line(page, "the end")
        assert lines(page) == [
            *(f"server: old {number}." for number in range(30, 80)),
            *(f"server: new {number}." for number in range(40)),
            "server: the end",
        ]


def test_new_messages_are_counted_and_mentions_are_marked(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        chat.say("seen")
        wait_for_line(page, "seen")
        assert page.title() == "lobby"
        # Earlier messages do not count as new.
        page.add_init_script("document.hasFocus = () => false")
        page.reload()
        wait_for_line(page, "seen")
        assert page.title() == "lobby"
        chat.say("hi Ann, is this annual?")
        chat.say("two")
        wait_for_line(page, "two")
        assert page.title() == "(2) lobby"
        assert page.locator("#log mark").all_text_contents() == ["Ann"]
        page.evaluate("dispatchEvent(new Event('focus'))")
        assert page.title() == "lobby"
