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


def test_the_nick_is_asked_once_and_remembered(browser: Browser) -> None:
    with ChatServer(port=0) as chat, window(browser, page_url(chat), None) as page:
        field = page.get_by_label("Choose a nick")
        for wrong, why in [
            ("", "must not be empty"),
            ("a b", "one word"),
            ("x" * 33, "at most 32"),
        ]:
            field.fill(wrong)
            page.get_by_role("button", name="Enter").click()
            page.get_by_role("alert").get_by_text(why).wait_for()
        field.fill("ann")
        field.press("Enter")
        page.locator("#state", has_text="ann").wait_for()
        page.reload()
        page.locator("#state", has_text="ann").wait_for()
        assert not page.locator("#ask").is_visible()
        say(page, "/nick anna")
        page.locator("#state", has_text="anna").wait_for()
        page.reload()
        page.locator("#state", has_text="anna").wait_for()


def test_the_token_is_asked_for_and_never_in_the_url(browser: Browser) -> None:
    with ChatServer(port=0, token="s3(cr)et", greeting="You are in") as chat:
        with window(browser, page_url(chat, "/ops"), None) as page:
            opened: list[str] = []
            page.on("websocket", lambda websocket: opened.append(websocket.url))
            page.get_by_label("The server requires a token.").fill("wrong")
            page.get_by_role("button", name="Enter").click()
            page.get_by_role("alert").get_by_text("does not accept this token").wait_for()
            page.get_by_label("The server requires a token.").fill("s3(cr)et")
            page.get_by_role("button", name="Enter").click()
            page.get_by_label("Choose a nick").fill("ann")
            page.get_by_role("button", name="Enter").click()
            wait_for_line(page, "You are in")
            assert page.url == page_url(chat, "/ops")
            assert opened
            assert not any("s3(cr)et" in url or "token" in url for url in opened)
        with window(browser, page_url(chat, "/ops?token=s3(cr)et"), "bob") as page:
            wait_for_line(page, "You are in")
            assert page.url == page_url(chat, "/ops")


def test_typing_a_token_is_not_interrupted(browser: Browser) -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            port = chat.port
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
        stack.enter_context(ChatServer(port=port, token="s3cret", greeting=""))
        field = page.get_by_label("The server requires a token.")
        field.wait_for()
        # Typographic quotes, which a header cannot contain.
        field.fill("\u201cs3cret\u201d")
        field.press("Enter")
        page.get_by_role("alert").get_by_text("ASCII letters").wait_for()
        # Longer than the pauses between two attempts.
        field.press_sequentially("s3cret", delay=250)
        assert field.input_value() == "s3cret"
        field.press("Enter")
        page.locator("#state", has_text=re.compile("^ann$")).wait_for()
        page.get_by_role("button", name="1 here").wait_for()


def test_the_question_for_the_nick_cannot_be_bypassed(browser: Browser) -> None:
    with ChatServer(port=0, greeting="") as chat:
        with window(browser, page_url(chat), None) as page:
            field = page.get_by_label("Choose a nick")
            field.fill("a b")
            field.press("Escape")
            field.press("Escape")
            field.press("Escape")
            field.wait_for()
            # Only the server knows them.
            field.fill("admin")
            field.press("Enter")
            page.get_by_role("alert").get_by_text("The nick admin is reserved.").wait_for()
            field.fill("ann")
            field.press("Enter")
            page.locator("#state", has_text=re.compile("^ann$")).wait_for()
            page.reload()
            page.locator("#state", has_text=re.compile("^ann$")).wait_for()
            with window(browser, page_url(chat), "bob") as bob:
                say(bob, "/nick ann")
                wait_for_line(bob, "The nick ann is taken here.")
                assert not bob.locator("#ask").is_visible()


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
        page.locator("#input").fill("")
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
        box = page.locator("#input")
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
            assert page.locator("#log .day").count() == 1
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


def test_tab_and_a_list_complete_words(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Client(url_of(chat), nick="berta") as berta,
        Client(url_of(chat), nick="bob") as bob,
        window(browser, page_url(chat), "ann") as page,
    ):
        for client in (bob, berta):
            client.say("hello")
            client.flush(PATIENCE)
        wait_for_line(page, "berta: hello")
        box = page.locator("#input")
        box.press_sequentially("/wh")
        page.get_by_role("option", name="/whois NAME").wait_for()
        box.press("Tab")
        assert box.input_value() == "/whois "
        box.fill("b")
        box.press("Tab")
        assert page.get_by_role("option").all_text_contents() == ["berta", "bob"]
        box.press("ArrowDown")
        box.press("Enter")
        assert box.input_value() == "bob: "
        box.press_sequentially("see be")
        box.press("Tab")
        assert box.input_value() == "bob: see berta "
        chat.say("hello", room="orchard")
        box.fill("/join orc")
        box.press("Tab")
        wait_for(lambda: box.input_value() == "/join orchard")
        box.fill("bob: see berta ")
        box.press("Shift+Enter")
        box.press_sequentially("two lines")
        box.press("Enter")
        wait_for_line(page, "two lines")
        assert lines(page)[-1] == "ann: bob: see berta\ntwo lines".replace("berta\n", "berta \n")
