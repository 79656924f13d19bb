"""The chat in a real browser."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from syncchat.web import _PARTS
from tests.peer import PATIENCE, ask_http, wait_for
from tests.people import Plain, url_of
from tests.processes import SERVER, Script, ServerScript, Terminal
from tests.windows import CHROMIUM, FLAGS, window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: Debian's package of that name has it")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[test]'")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def page_url(chat: ChatServer | ServerScript, path: str = "/") -> str:
    return f"http://127.0.0.1:{chat.port}{path}"


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox").fill(text)
    page.get_by_role("textbox").press("Enter")


def lines(page: Page) -> list[str]:
    """What was said and done, without its time."""
    return [
        re.sub(r"^\d\d:\d\d(\s[AP]M)?", "", text).strip()
        for text in page.locator("#log > .said, #log > .action").all_text_contents()
    ]


def wait_for_line(page: Page, text: str) -> None:
    page.locator("#log > li", has_text=text).first.wait_for()


# Talking.


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


def test_a_server_that_is_killed_and_back_costs_nothing(browser: Browser, tmp_path: Path) -> None:
    flags = ["--engine", f"sqlite:{tmp_path / 'chat.db'}", "--no-notices", "--rate", "0"]
    with ExitStack() as stack:
        server = stack.enter_context(ServerScript(*flags))
        ann = stack.enter_context(window(browser, page_url(server), "ann"))
        say(ann, "before")
        wait_for_line(ann, "before")
        server.signal(signal.SIGKILL)
        server.exit_code()
        ann.locator("#state", has_text="coming back").wait_for()
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
        field = page.get_by_label("What do you want to be called?")
        for wrong, why in [("", "at least one"), ("a b", "one word"), ("x" * 33, "at most 32")]:
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


def test_a_token_is_asked_for_and_never_stands_in_the_address(browser: Browser) -> None:
    with ChatServer(port=0, token="s3cret", greeting="You are in") as chat:
        with window(browser, page_url(chat, "/ops"), None) as page:
            page.get_by_label("The server asks for a token.").fill("wrong")
            page.get_by_role("button", name="Enter").click()
            page.get_by_role("alert").get_by_text("does not know").wait_for()
            page.get_by_label("The server asks for a token.").fill("s3cret")
            page.get_by_role("button", name="Enter").click()
            page.get_by_label("What do you want to be called?").fill("ann")
            page.get_by_role("button", name="Enter").click()
            wait_for_line(page, "You are in")
            assert page.url == page_url(chat, "/ops")
        with window(browser, page_url(chat, "/ops?token=s3cret"), "bob") as page:
            wait_for_line(page, "You are in")
            assert page.url == page_url(chat, "/ops")


def test_a_token_that_is_asked_for_in_between_is_typed_in_peace(browser: Browser) -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            port = chat.port
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
        stack.enter_context(ChatServer(port=port, token="s3cret", greeting=""))
        field = page.get_by_label("The server asks for a token.")
        field.wait_for()
        # Quotes as telephones put them, which no header can hold.
        field.fill("\u201cs3cret\u201d")
        field.press("Enter")
        page.get_by_role("alert").get_by_text("plain letters").wait_for()
        # Longer than the pauses between two attempts.
        field.press_sequentially("s3cret", delay=250)
        assert field.input_value() == "s3cret"
        field.press("Enter")
        page.locator("#state", has_text=re.compile("^ann$")).wait_for()
        page.get_by_role("button", name="1 here").wait_for()


def test_no_way_leads_past_the_question_for_the_nick(browser: Browser) -> None:
    with ChatServer(port=0, greeting="") as chat:
        with window(browser, page_url(chat), None) as page:
            field = page.get_by_label("What do you want to be called?")
            field.fill("a b")
            field.press("Escape")
            field.press("Escape")
            field.press("Escape")
            field.wait_for()
            # Which only the server knows.
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
        wait_for_line(page, "You are in ops now.")
        assert page.url == page_url(chat, "/ops")
        page.get_by_role("heading", name="ops").wait_for()
        page.get_by_role("complementary").get_by_text("bob").wait_for()
        page.get_by_role("button", name="2 here").wait_for()
        for line, answer in [
            ("/names", "2 connected"),
            ("/rooms", "Rooms: "),
            ("/whois bob", "bob is here since"),
            ("/search nothing", "Nothing was found."),
            ("/msg bob psst", "to bob: psst"),
            ("/away lunch", "ann is away: lunch"),
            ("/back", "ann is back."),
            ("/help", "/whois NAME"),
            ("/nonsense", "There is no command /nonsense."),
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


def test_a_room_has_one_address_however_it_is_spelled(browser: Browser) -> None:
    """Issue 13, item 18: the page goes by the server's name for the room."""
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        window(browser, page_url(chat, "/%23OPS"), "ann") as page,
    ):
        page.get_by_role("heading", name="ops", exact=True).wait_for()
        assert page.url == page_url(chat, "/ops")
        say(page, "/join #Kitchen")
        wait_for_line(page, "You are in kitchen now.")
        assert page.url == page_url(chat, "/kitchen")
        chat.say("hello", room="orchard")
        box = page.get_by_role("textbox")
        box.fill("/join #ORC")
        box.press("Tab")
        wait_for(lambda: box.input_value() == "/join orchard")
        say(page, "/join a b")
        wait_for_line(page, "A room's name is one word: it has no blanks.")
        page.go_back()
        wait_for_line(page, "You are in ops now.")
        assert page.url == page_url(chat, "/ops")


def test_the_past_is_there_and_more_of_it_on_scrolling(browser: Browser) -> None:
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


def test_the_past_is_there_where_nobody_needs_to_scroll(browser: Browser) -> None:
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


def test_a_log_that_has_begun_anew_is_not_mixed_with_the_old(browser: Browser) -> None:
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


def test_what_is_new_is_counted_and_mentions_are_marked(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        chat.say("seen")
        wait_for_line(page, "seen")
        assert page.title() == "lobby"
        # What has been there before is not new.
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


def test_tab_and_a_list_complete(browser: Browser) -> None:
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
        box = page.get_by_role("textbox")
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


# Strangers.

TRICKS = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg/onload=window.pwned=1>",
    "</li><h1>big</h1>",
    "&lt;b&gt; &amp; &#x41;",
    "javascript:window.pwned=1",
    "data:text/html,<script>window.pwned=1</script>",
    "https://example.org/<script>window.pwned=1</script>",
    'https://example.org/"onmouseover="window.pwned=1',
    "https://bank.example@evil.example/",
    "http://[::1",
    "${window.pwned=1} {{window.pwned=1}}",
    "\u202ehttps://elpmaxe.org",
    "constructor __proto__ toString",
]


def test_nothing_that_a_stranger_says_is_more_than_text(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="<i>hello</i>", rate=0, format="{sender}: {text}") as chat,
        window(browser, page_url(chat, "/%26lt;b%26gt;room"), "ann") as page,
    ):
        for number, trick in enumerate(TRICKS):
            with Client(url_of(chat, "/%26lt;b%26gt;room")) as client:
                wait_for(lambda: client.connected)
                client.send_line(f"/nick <i>{number}")
                client.send_line(f"/away {trick[:150]}")
                client.say(trick)
                client.act(trick)
                client.send_line(f"/msg ann {trick}")
                client.flush(PATIENCE)
        with Client(url_of(chat, "/%26lt;b%26gt;room"), nick="constructor") as client:
            client.say("the end")
            client.flush(PATIENCE)
        wait_for_line(page, "the end")
        assert page.evaluate("window.pwned") is None
        assert page.locator("#log script, #log img, #log svg, #log h1, #log i, #log b").count() == 0
        assert page.get_by_role("heading").text_content() == "&lt;b&gt;room"
        assert page.title().endswith("&lt;b&gt;room")
        shown = "\n".join(lines(page))
        for trick in TRICKS[:8]:
            assert trick in shown
        links = page.locator("#log a").evaluate_all(
            "all => all.map((a) => [a.protocol, a.host, a.rel, a.target, a.textContent])"
        )
        assert links
        for protocol, host, rel, target, text in links:
            assert protocol in ("http:", "https:")
            assert host in ("example.org", "elpmaxe.org")
            assert "noopener" in rel
            assert target == "_blank"
            assert text.startswith(f"{protocol}//{host}")


def test_long_and_strange_texts_hold_nothing_up(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", rate=0, notices=False) as chat,
        window(browser, page_url(chat), "a-b.c+") as page,
    ):
        for text in [
            "http://x/" + ")" * 60_000,
            "http://x/" + "." * 60_000 + "y",
            "." * 60_000,
            "http://x/(" * 6_000,
            "a-b.c+ " * 8_000,
            *(["a" + "\u0301" * 32_000] * 5),
            *(["a" + ("\u0301" * 8 + "\u200d") * 6_000] * 3),
        ]:
            chat.say(text)
        chat.say("hi a-b.c+!")
        wait_for_line(page, "hi a-b.c+!")
        assert page.locator("#log mark").last.text_content() == "a-b.c+"
        say(page, "/constructor")
        wait_for_line(page, "There is no command /constructor.")
        page.get_by_role("textbox").fill("x" * 70_000)
        page.get_by_role("textbox").press("Enter")
        wait_for_line(page, "Not sent: it is longer than the 65536 bytes of a message.")
        say(page, "still here")
        wait_for_line(page, "still here")


@pytest.mark.timeout(120)
def test_ten_thousand_messages_leave_a_short_list(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        window(browser, page_url(chat), "ann") as page,
    ):
        for number in range(10_000):
            chat.say(f"message {number}.")
        # A browser on a busy machine takes long to show so many.
        last = page.locator("#log > li", has_text="message 9999.").first
        last.wait_for(timeout=6 * PATIENCE * 1000)
        assert page.locator("#log > li").count() <= 610
        assert lines(page)[-1] == "server: message 9999."
        say(page, "still here")
        wait_for_line(page, "still here")
        # Who reads what is old is left where he is, and may go to the end.
        page.evaluate("document.getElementById('talk').scrollTop = 300")
        chat.say("unseen")
        page.get_by_role("button", name="New messages below").click()
        page.locator("#log > li", has_text="unseen").wait_for()
        assert not page.get_by_role("button", name="New messages below").is_visible()


# Looks.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_wide_enough(browser: Browser, scheme: str) -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Client(url_of(chat), nick="bob") as bob,
        window(browser, page_url(chat), "ann", 360, 640) as page,
    ):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        bob.say("x" * 300)
        bob.say("https://example.org/" + "y" * 300)
        bob.flush(PATIENCE)
        wait_for_line(page, "y" * 300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not page.locator("#people").is_visible()
        button = page.get_by_role("button", name="2 here")
        assert button.get_attribute("aria-expanded") == "false"
        button.click()
        assert button.get_attribute("aria-expanded") == "true"
        page.get_by_role("complementary").get_by_text("bob").wait_for()
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_everything_has_a_name_for_who_cannot_see_it(browser: Browser) -> None:
    with ChatServer(port=0) as chat, window(browser, page_url(chat), "ann") as page:
        log = page.get_by_role("log")
        assert log.get_attribute("aria-live") == "polite"
        page.get_by_role("textbox", name="Message, or a command").wait_for()
        page.get_by_role("button", name="Send").wait_for()
        page.get_by_role("complementary", name="People in this room").wait_for()
        assert page.get_by_role("status").text_content() == "ann"
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, textarea')]"
            ".filter((each) => !each.labels?.length && !each.textContent.trim()).length"
        )
        assert unnamed == 0


# How it is served.


def test_the_page_and_its_parts_are_served_strictly_and_once() -> None:
    with ChatServer(port=0) as chat:
        for path in ["/", "/kitchen", "/%23A%2Bb", *(f"/-/{name}" for name in _PARTS)]:
            status, headers, body = ask_http(chat.port, path)
            assert (status, headers["x-content-type-options"]) == (200, "nosniff")
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert int(headers["content-length"]) == len(body) > 100
            tag = headers["etag"]
            for known in (tag, f'W/{tag}, "other"', "*"):
                assert ask_http(chat.port, path, If_None_Match=known)[::2] == (304, b"")
            assert ask_http(chat.port, path, If_None_Match='"other"')[0] == 200
            assert ask_http(chat.port, path, "HEAD")[::2] == (200, b"")
            status, headers, _ = ask_http(chat.port, path, "POST")
            assert (status, headers["allow"]) == (405, "GET, HEAD")
        policy = ask_http(chat.port, "/", Host="localhost")[1]["content-security-policy"]
        assert "connect-src 'self' ws://localhost wss://localhost;" in policy
        for path in ("/a/b", "/-/nothing", "/-/../server.py", "/-/", "/" + "x" * 200):
            assert ask_http(chat.port, path)[0] == 404, path
        for place in re.findall(rb'(?:src|href)="([^"]+)"', ask_http(chat.port, "/")[2]):
            assert place.startswith(b"-/")


def test_nothing_is_loaded_from_elsewhere(browser: Browser) -> None:
    asked: list[str] = []
    with ChatServer(port=0) as chat, window(browser, "about:blank", None) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_url(chat))
        page.get_by_label("What do you want to be called?").wait_for()
        assert len(asked) > 6
        assert [url for url in asked if not url.startswith(page_url(chat))] == []


def test_a_server_without_the_page_says_what_it_is() -> None:
    with ServerScript("--no-web") as server:
        for path in ("/", "/kitchen", "/-/app.js"):
            status, headers, body = ask_http(server.port, path)
            assert (status, body[:21]) == (426, b"This is a chat server")
            # Issue 13, item 5.
            assert (headers["upgrade"], headers["connection"]) == ("websocket", "Upgrade, close")
        assert ask_http(server.port, "/healthz")[0] == 200
    with ServerScript(SYNCCHAT_WEB="no") as server:
        assert ask_http(server.port, "/")[0] == 426
