"""How a user of the page joins, and what the page does when the line or the server fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from tests.peer import PATIENCE, wait_for
from tests.people import Json, url_of
from tests.proxy import Proxy
from tests.web.pages import page_url, say, wait_for_line
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer(port=0, greeting="", rate=0, notices=True) as chat:
        yield chat


def join(page: Page, name: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Join", exact=True).click()


def connected(page: Page, nick: str) -> None:
    page.locator("#state", has_text=re.compile(f"^{re.escape(nick)}$")).wait_for()


def wait_for_events(page: Page, condition: Callable[[], object]) -> None:
    """Wait for what Playwright calls back: it does so only while it is asked something."""
    wait_for(lambda: (page.evaluate("0"), condition())[1])


def agrees(page: Page, room: str) -> bool:
    """Whether the URL, the title and the heading name the room."""
    heading = page.locator("#room").text_content()
    return (page.url.rsplit("/", 1)[1], heading) == (room, room) and page.title().endswith(room)


def test_a_first_visit_asks_for_a_name_before_anybody_is_told(
    browser: Browser, chat: ChatServer
) -> None:
    with (
        Json(url_of(chat, "/first?nick=ann")) as ann,
        window(browser, page_url(chat, "/first"), None) as page,
    ):
        ann.find("welcome")
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        panel = page.get_by_role("dialog", name="Join first")
        assert f"127.0.0.1:{chat.port}" in (panel.text_content() or "")
        field = page.get_by_label("Your name")
        assert field.get_attribute("autocomplete") == "username"
        for wrong, why in [
            ("", "Enter a name"),
            ("a b", "one word"),
            ("x" * 33, "at most 32"),
            ("ann", "The nick ann is taken here."),
            ("admin", "The nick admin is reserved."),
        ]:
            join(page, wrong)
            page.get_by_role("alert").get_by_text(why).wait_for()
            assert field.get_attribute("aria-invalid") == "true"
            assert "complaint" in (field.get_attribute("aria-describedby") or "").split()
            assert page.evaluate("document.activeElement.id") == "answer"
        # No mark of an alarm stands behind the panel.
        assert page.locator("#state").evaluate("(state) => state.matches(':empty')")
        for _ in range(3):
            field.press("Escape")
        field.wait_for()
        assert page.evaluate("localStorage.getItem('syncchat.nick')") is None
        join(page, "bob")
        connected(page, "bob")
        # Nobody was told of the names that were refused.
        assert ann.find("joined")["nick"] == "bob"
        # All tabs of the browser share the name, also with a reload.
        other = page.context.new_page()
        other.goto(page_url(chat, "/first"))
        connected(other, "bob")
        say(other, "from a tab")
        wait_for_line(page, "from a tab")
        other.reload()
        connected(other, "bob")
        other.close()
        assert page.locator("#names").get_by_role("listitem").count() == 2
        ann.ask(type="names")
        assert ann.event("message", "names")["type"] == "message"
        assert ann.event("names")["names"] == ["ann", "bob"]
        # Another browser does not.
        with window(browser, page_url(chat, "/first"), "eve") as eve:
            say(eve, "/nick bob")
            wait_for_line(eve, "The nick bob is taken here.")
        assert sockets
        assert not [url for url in sockets if "browser" in url]


def test_a_token_is_asked_for_in_the_same_panel_and_kept(browser: Browser) -> None:
    with ChatServer(port=0, token="s3(cr)et", greeting="You are in") as chat:
        with window(browser, page_url(chat, "/ops"), None) as page:
            sockets: list[str] = []
            page.on("websocket", lambda socket: sockets.append(socket.url))
            token = page.get_by_label("Token")
            token.wait_for()
            assert token.get_attribute("type") == "password"
            assert token.get_attribute("autocomplete") == "current-password"
            page.get_by_label("Your name").fill("ann")
            # Typographic quotes, which a header cannot contain.
            for wrong, why in [("\u201cx\u201d", "ASCII letters"), ("wrong", "does not accept")]:
                token.fill(wrong)
                token.press("Enter")
                page.get_by_role("alert").get_by_text(why).wait_for()
                assert token.get_attribute("aria-invalid") == "true"
            token.fill("s3(cr)et")
            token.press("Enter")
            wait_for_line(page, "You are in")
            other = page.context.new_page()
            other.goto(page_url(chat, "/other"))
            connected(other, "ann")
            # A server at another path gets neither this token nor the name's secret.
            keys: list[str] = other.evaluate(
                "Object.keys(localStorage).filter(k => /tok|bro/.test(k))"
            )
            assert sorted(keys) == ["syncchat.browser /", "syncchat.token /"]
            other.evaluate("import('/-/token.js').then(({ forgetToken }) => forgetToken())")
            other.reload()
            other.get_by_label("Token").wait_for()
            other.close()
            assert sockets
            assert not [url for url in sockets if "s3(cr)et" in url or "token" in url]
        with window(browser, page_url(chat, "/ops?token=s3(cr)et"), "bob") as page:
            assert page.url == page_url(chat, "/ops")


def test_typing_a_token_is_not_interrupted(browser: Browser) -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            port = chat.port
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
        stack.enter_context(ChatServer(port=port, token="s3cret", greeting=""))
        field = page.get_by_label("Token")
        field.wait_for()
        assert not page.get_by_label("Your name").is_visible()
        # Longer than the pauses between two attempts.
        field.press_sequentially("s3cret", delay=250)
        assert field.input_value() == "s3cret"
        field.press("Enter")
        connected(page, "ann")


def test_the_page_says_why_it_is_refused_and_what_helps(browser: Browser) -> None:
    with ExitStack() as stack:
        with ChatServer(port=0, greeting="") as chat:
            port = chat.port
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
            asked: list[str] = []
            answer = {"status": 503, "body": "The server is full."}

            def fulfill(route: object) -> None:
                asked.append(route.request.method)  # type: ignore[attr-defined]
                route.fulfill(**answer)  # type: ignore[attr-defined]

            page.route("**/-/auth", fulfill)
            page.locator("#who", has_text="1 here").wait_for()
        page.locator(
            "#state", has_text=re.compile(r"Reconnecting( in \d+ s)?: The server is full")
        ).wait_for()
        assert not re.search(r"\d", page.locator("#who").text_content() or "")
        wait_for_events(page, lambda: len(asked) > 2)
        assert page.locator("#log").get_by_text("full").count() == 0
        answer = {"status": 403, "body": "The operator must set --public-url."}
        page.locator("#state", has_text="The operator must set --public-url.").wait_for()
        attempts = len(asked)
        stack.enter_context(ChatServer(port=port, greeting=""))
        page.wait_for_timeout(1500)
        assert len(asked) == attempts
        page.locator("#state").get_by_role("button", name="Try again").click()
        connected(page, "ann")
        say(page, "/quit")
        page.locator("#state").get_by_role("button", name="Reconnect").click()
        connected(page, "ann")


def test_a_refusal_at_each_attempt_is_told_once(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", max_rooms=1) as chat,
        Client(url_of(chat, "/only"), nick="bob"),
        window(browser, page_url(chat, "/ops"), None) as page,
    ):
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        join(page, "ann")
        wait_for_events(page, lambda: len(sockets) > 2)
        assert page.locator("#log").get_by_text("its limit of").count() == 1


def test_a_dead_line_is_noticed(browser: Browser, chat: ChatServer) -> None:
    with Proxy(chat.port) as proxy, Client(url_of(chat, "/dead"), nick="bob"):
        with window(browser, f"http://127.0.0.1:{proxy.port}/dead", "ann") as page:
            proxy.swallow()
            # It is not sent again by itself, since it might come twice.
            say(page, "/msg bob are you there?")
            page.evaluate("performance.mark('said')")
            page.locator("#state", has_text="Reconnecting").wait_for()
            waited: float = page.evaluate("performance.measure('dead', 'said').duration")
            assert waited < 11_000
            connected(page, "ann")
            wait_for_line(page, "Perhaps not delivered to bob: are you there?")
            assert page.locator("#input").input_value() == "/msg bob are you there?"
            page.locator("#input").press("Enter")
            wait_for_line(page, "to bob: are you there?")
            # At once, if the network comes back: with an answer that is due in 5 seconds.
            proxy.swallow()
            page.evaluate("performance.mark('said'); dispatchEvent(new Event('online'))")
            page.locator("#state", has_text="Reconnecting").wait_for()
            waited = page.evaluate("performance.measure('dead', 'said').duration")
            assert waited < 6500
            connected(page, "ann")
            assert page.locator("#log").get_by_text("Perhaps not").count() == 1


def test_a_restarted_server_has_lost_nothing_that_was_not_seen(browser: Browser) -> None:
    with ExitStack() as stack:
        with ChatServer(port=0, greeting="") as chat:
            port = chat.port
            page = stack.enter_context(window(browser, page_url(chat), "ann"))
            say(page, "seen")
            wait_for_line(page, "seen")
        with ChatServer(port=port, greeting=""):
            wait_for_line(page, "The server has restarted; earlier messages are no longer kept.")
        with ChatServer(port=port, greeting=""):
            # Nothing was said in that log.
            page.locator("#log", has_text=re.compile(r"(Reconnected.*){2}", re.DOTALL)).wait_for()
            assert page.locator("#log").get_by_text("has restarted").count() == 1
            assert page.locator("#log").get_by_text("missing").count() == 0
            say(page, "seen too")
            wait_for_line(page, "seen too")
        chat = stack.enter_context(ChatServer(port=port, greeting=""))
        chat.say("anew")
        wait_for_line(page, "anew")
        shown = page.locator("#log > li:not(.day)").all_inner_texts()
        restarted = "The server has restarted; earlier messages are no longer kept."
        assert shown[-3:-1] == ["Reconnected.", restarted]


def test_the_url_and_the_room_agree(browser: Browser) -> None:
    with (
        ChatServer(port=0, greeting="", rate=0, max_rooms=4, notices=False) as chat,
        window(browser, page_url(chat, "/one"), "ann") as page,
    ):
        for room in ("two", "three"):
            say(page, f"/join {room}")
            wait_for(partial(agrees, page, room))
        # Two steps back at once lose nothing.
        page.evaluate("history.back(); setTimeout(() => history.back(), 5)")
        wait_for(lambda: agrees(page, "one"))
        wait_for_line(page, "You are now in one.")
        for room in ("two", "three"):
            page.go_forward()
            wait_for(partial(agrees, page, room))
        # A message in another room, and its links.
        for number in range(1, 121):
            chat.say(f"message {number}.", room="one")
        chat.say(f"see {page_url(chat, '/one#18')}", room="three")
        page.get_by_role("link", name=re.compile("#18$")).click()
        page.locator("#log [data-offset='18']").wait_for()
        wait_for(lambda: page.locator("#room").text_content() == "one")
        assert page.url == page_url(chat, "/one#18")
        page.evaluate("location.hash = '#5'")
        page.locator("#log [data-offset='5']").wait_for()
        page.go_back()
        page.go_back()
        wait_for(lambda: agrees(page, "three"))
        page.goto(page_url(chat, "/one#7"))
        page.locator("#log [data-offset='7']").wait_for()
        assert page.url == page_url(chat, "/one#7")
        # A room that is refused.
        with ExitStack() as stack:
            stack.enter_context(Client(url_of(chat, "/four"), nick="guest"))
            page.evaluate(
                "history.pushState(null, '', '/five'); dispatchEvent(new Event('popstate'))"
            )
            wait_for(lambda: agrees(page, "one"))


def test_what_is_shown_without_scripts_and_without_all_modules(
    browser: Browser, chat: ChatServer
) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.goto(page_url(chat))
    assert page.locator("body").inner_text().strip().startswith("This page needs JavaScript.")
    assert page.locator("body > :visible").count() == 1
    context.close()
    context = browser.new_context()
    page = context.new_page()
    page.route("**/-/app.js", lambda route: route.abort())
    page.goto(page_url(chat))
    page.get_by_text("The page could not be loaded completely.").wait_for(timeout=PATIENCE * 1000)
    context.close()


def test_the_panel_is_usable_before_the_modules_have_come(
    browser: Browser, chat: ChatServer
) -> None:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    held: list[object] = []
    page.route("**/-/app.js", lambda route: held.append(route))  # noqa: PLW0108 - it is inspected
    page.goto(page_url(chat, "/early"), wait_until="commit")
    join(page, "zoe")
    page.get_by_role("dialog").wait_for(state="hidden")
    wait_for_events(page, lambda: held)
    held[0].continue_()  # type: ignore[attr-defined]
    connected(page, "zoe")
    context.close()
