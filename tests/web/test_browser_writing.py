"""Writing on the page: completion, drafts, quotes, pastes, refused lines, its own commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

from syncchat import ChatServer, Client
from tests.peer import PATIENCE, wait_for
from tests.people import url_of
from tests.web.pages import lines, page_url, say, wait_for_line
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer(port=0, greeting="", rate=0, read_only=["board"]) as chat:
        yield chat


def offered(page: Page) -> list[str]:
    """The candidates, without their explanations."""
    names: list[str] = page.locator("#candidates:visible li").evaluate_all(
        "(items) => items.map((item) => item.firstChild.data)"
    )
    return names


def value(page: Page) -> str:
    return page.locator("#input").input_value()


def paste(page: Page, text: str) -> None:
    page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
    page.keyboard.press("Control+V")


def wait_for_said(page: Page, line: str) -> None:
    wait_for(lambda: line in lines(page))


def enter_room(page: Page, room: str) -> None:
    say(page, f"/join {room}")
    page.get_by_placeholder(f"Message #{room}").wait_for()


# Completion.


def test_words_are_completed_while_typing(browser: Browser, chat: ChatServer) -> None:
    chat.say("hello", room="orchard")
    with (
        Client(url_of(chat, "/words"), nick="berta") as berta,
        Client(url_of(chat, "/words"), nick="bob") as bob,
        Client(url_of(chat, "/words"), nick="silent"),
        window(browser, page_url(chat, "/words"), "ann") as page,
    ):
        for client in (bob, berta):
            client.say("hello")
            client.flush(PATIENCE)
        wait_for_said(page, "berta: hello")
        box = page.locator("#input")
        marked = page.locator("#candidates [aria-selected=true]")
        # Plain words: from two letters, and only who has spoken; Enter sends what is typed.
        box.press_sequentially("b")
        assert offered(page) == []
        box.press_sequentially("o")
        assert offered(page) == ["bob"]
        box.press("Enter")
        wait_for_said(page, "ann: bo")
        box.press_sequentially("si")
        assert offered(page) == []
        box.press("Tab")
        assert value(page) == "silent: "
        # @: from nothing, everybody; the marked one is told, and Enter takes it.
        box.fill("hi @")
        assert offered(page) == ["berta", "bob", "silent"]
        assert box.get_attribute("aria-controls") == "candidates"
        assert box.get_attribute("aria-autocomplete") == "list"
        assert box.get_attribute("aria-activedescendant") == marked.get_attribute("id")
        assert page.locator("#candidates-number").text_content() == "3 completions"
        box.press("ArrowDown")
        assert marked.text_content() == "bob"
        box.press("Escape")
        assert (offered(page), value(page)) == ([], "hi @")
        assert box.get_attribute("aria-activedescendant") is None
        box.press_sequentially("bo")
        box.press("Enter")
        assert value(page) == "hi @bob "
        box.press("Control+Z")
        assert value(page) == "hi @bo"
        # Who has moved in the list takes from it by Enter, too.
        box.fill("see be")
        box.press("ArrowDown")
        box.press("Enter")
        assert value(page) == "see berta "
        # Rooms, in a text and behind a command.
        box.fill("see #")
        box.press_sequentially("orch")
        page.get_by_role("option", name="#orchard").wait_for()
        box.press("Tab")
        assert value(page) == "see #orchard "
        box.fill("/join ")
        page.get_by_role("option", name="#orchard").wait_for()
        chat.say("hello", room="meadow")
        box.fill("/join mea")
        box.press("Tab")
        wait_for(lambda: value(page) == "/join meadow")
        # Commands, and their arguments.
        box.fill("/who")
        assert offered(page) == ["/whois NAME"]
        box.press("Tab")
        assert (value(page), offered(page)) == ("/whois ", ["berta", "bob", "silent"])
        box.press("Tab")
        assert value(page) == "/whois berta "
        # No help in code, and Tab leaves the input when there is nothing to complete.
        box.fill("```\nbo")
        assert offered(page) == []
        for text in ("/nonsense", "xyzzy", "done "):
            box.fill(text)
            box.press("Tab")
            assert page.evaluate("document.activeElement.textContent") == "Send", text
        box.fill("")


def test_the_input_can_be_seen(browser: Browser, chat: ChatServer) -> None:
    """The border has a contrast of 3:1, and forced colors show which candidate is marked."""
    with window(browser, page_url(chat, "/seen"), "ann") as page:
        box = page.locator("#input")
        schemes: list[Literal["light", "dark"]] = ["light", "dark"]
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            border, ground, around = box.evaluate(
                """(box) => {
                  const style = getComputedStyle(box), page = getComputedStyle(document.body);
                  return [style.borderTopColor, style.backgroundColor, page.backgroundColor];
                }"""
            )
            assert contrast(border, ground) >= 3, scheme
            assert contrast(border, around) >= 3, scheme
        page.emulate_media(forced_colors="active")
        box.press_sequentially("/")
        items = page.locator("#candidates li")
        outline = "(item) => getComputedStyle(item).outline"
        first, second = (items.nth(at).evaluate(outline) for at in (0, 1))
        assert first != second
        page.emulate_media(forced_colors="none")
        # It grows up to 40 % of the height.
        box.fill("\n".join(["line"] * 8))
        assert 150 < box.evaluate("(box) => box.offsetHeight") <= 240
        box.fill("\n".join(["line"] * 80))
        assert box.evaluate("(box) => box.offsetHeight") <= 240
        box.fill("")
        assert box.evaluate("(box) => box.offsetHeight") < 50


def contrast(one: str, two: str) -> float:
    """The contrast of two colors as WCAG 2.2 defines it."""
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_finger_chooses_a_candidate(browser: Browser, chat: ChatServer) -> None:
    with (
        Client(url_of(chat, "/phone"), nick="bob"),
        Client(url_of(chat, "/phone"), nick="berta"),
        window(browser, page_url(chat, "/phone"), "ann", 390, 844, phone=True) as page,
    ):
        box = page.locator("#input")
        assert box.get_attribute("enterkeyhint") == "send"
        box.tap()
        box.press_sequentially("hi @b")
        page.get_by_role("option", name="bob").tap()
        assert value(page) == "hi @bob "
        assert page.evaluate("document.activeElement.id") == "input"
        box.fill("/")
        row, below = (page.locator(each).bounding_box() for each in ("#candidates", "#input"))
        assert row is not None
        assert below is not None
        assert row["width"] == 390
        assert 44 <= row["height"] <= 60
        assert row["y"] + row["height"] <= below["y"]
        box.fill("hi @bob")
        box.press("Space")
        box.press("Enter")
        wait_for_said(page, "ann: hi @bob")
        # The menu of a message has a place beside the text.
        box.fill("wide " * 40)
        box.press("Enter")
        text = page.locator("#log > .continued .text").bounding_box()
        menu = page.locator("#log > .continued .more").bounding_box()
        assert text is not None
        assert menu is not None
        assert text["x"] + text["width"] <= menu["x"]
        assert menu["width"] >= 24
        assert menu["height"] >= 24
        # The hint of an empty input is one line.
        page.set_viewport_size({"width": 320, "height": 640})
        box.fill("x")
        box.fill("")
        assert box.evaluate("(box) => box.offsetHeight") < 50


# What was typed.


def test_lines_are_recalled_and_drafts_are_kept(browser: Browser, chat: ChatServer) -> None:
    with window(browser, page_url(chat, "/drafts"), "ann") as page:
        box = page.locator("#input")
        for text in ("first", "second"):
            say(page, text)
        box.press_sequentially("unsent")
        box.press("Shift+Enter")
        box.press_sequentially("text")
        # In the second of two lines, Up moves the caret.
        for key, shown in [
            ("ArrowUp", "unsent\ntext"),
            ("ArrowUp", "second"),
            ("ArrowUp", "first"),
            ("ArrowUp", "first"),
            ("ArrowDown", "second"),
            ("ArrowDown", "unsent\ntext"),
            ("ArrowDown", "unsent\ntext"),
        ]:
            box.press(key)
            page.evaluate("new Promise((done) => setTimeout(done))")
            assert value(page) == shown, key
        box.press("Enter")
        wait_for(lambda: lines(page)[-1] == "ann: unsent\ntext")
        # A draft survives another room and a reload, and sending removes it.
        box.press_sequentially("half a tho")
        page.get_by_role("button", name="Join a room").click()
        page.get_by_role("combobox", name="Go to a room").fill("drafts2")
        page.keyboard.press("Enter")
        page.get_by_placeholder("Message #drafts2").wait_for()
        assert value(page) == ""
        box.press_sequentially("other")
        page.reload()
        page.get_by_placeholder("Message #drafts2").wait_for()
        assert value(page) == "other"
        page.go_back()
        page.get_by_placeholder("Message #drafts,").wait_for()
        assert value(page) == "half a tho"
        box.press_sequentially("ught")
        box.press("Enter")
        wait_for_line(page, "half a thought")
        page.reload()
        page.get_by_placeholder("Message #drafts,").wait_for()
        assert value(page) == ""
        box.press("ArrowUp")
        wait_for(lambda: value(page) == "half a thought")
        # Another tab has the draft, too.
        box.fill("for all tabs")
        wait_for(lambda: "for all tabs" in page.evaluate("JSON.stringify(localStorage)"))
        with page.context.new_page() as tab:
            tab.goto(page_url(chat, "/drafts"))
            tab.get_by_placeholder("Message #drafts,").wait_for()
            assert value(tab) == "for all tabs"
        # What another program has written there does no harm.
        page.evaluate(
            """() => {
              for (const storage of [localStorage, sessionStorage]) {
                for (const key of Object.keys(storage)) {
                  if (/^syncchat\\.(draft|typed|private) /.test(key)) storage.setItem(key, "[1");
                }
              }
            }"""
        )
        page.reload()
        page.get_by_placeholder("Message #drafts,").wait_for()


def test_a_refused_line_returns_and_private_messages_stay(
    browser: Browser, chat: ChatServer
) -> None:
    with (
        Client(url_of(chat, "/lost"), nick="bob") as bob,
        window(browser, page_url(chat, "/lost"), "ann") as page,
    ):
        for line, complaint in [
            ("/msg nobody hi", "nobody"),
            ("/nick bob", "The nick bob is taken here."),
            ("/whois nobody", "nobody"),
            ("/join a/b", "room"),
        ]:
            say(page, line)
            page.locator("#log .alarm", has_text=complaint).last.wait_for()
            wait_for(lambda line=line: value(page) == line)  # type: ignore[misc]
        # Not over something else, and not after it has been answered.
        page.evaluate(
            "input.value = '/msg nobody hi'; composer.requestSubmit(); input.value = 'other text'"
        )
        wait_for(lambda: page.locator("#log .alarm", has_text="nobody").count() >= 3)
        assert value(page) == "other text"
        say(page, "/msg bob psst")
        wait_for_line(page, "psst")
        bob.send_line("/msg ann secret")
        wait_for_line(page, "secret")
        # They follow to the next room, and outlast a reload.
        for enter in (lambda: enter_room(page, "lost2"), page.reload):
            enter()
            page.locator("#log .private", has_text="secret").wait_for()
            assert page.locator("#log .private .text").all_text_contents() == ["psst", "secret"]


def test_pasted_texts_become_blocks(browser: Browser, chat: ChatServer) -> None:
    with window(browser, page_url(chat, "/pastes"), "ann") as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        box = page.locator("#input")
        code = "def f():\n    return 1\n\nf()"
        for before, text, after in [
            ("", "one\ntwo", "one\ntwo"),
            ("look:", code.replace("\n", "\r\n") + "\r\n", f"look:\n```\n{code}\n```\n"),
            ("", "\n    indented\n    b\nc", "```\n    indented\n    b\nc\n```\n"),
            ("```\n", "1\n2\n3", "```\n1\n2\n3"),
            ("/topic ", "1\n2\n3", "/topic 1\n2\n3"),
        ]:
            box.fill(before)
            paste(page, text)
            assert value(page) == after
        # Over the limit: it says so, and the text stays.
        box.fill("")
        paste(page, "x" * 70_000)
        assert re.fullmatch(r"[\d,.]+ bytes too long", page.locator("#size").text_content() or "")
        box.press("Enter")
        wait_for_line(page, "Not sent: it exceeds the limit of 65536 bytes")
        assert len(value(page)) == 70_000
        box.fill("x" * 60_000)
        assert "bytes left" in (page.locator("#size").text_content() or "")
        # A long word in front does not slow the typing down.
        took = page.evaluate(
            """() => {
              input.value = "x".repeat(60_000) + " b";
              const begin = performance.now();
              input.dispatchEvent(new Event("input"));
              return performance.now() - begin;
            }"""
        )
        assert took < 400
        box.fill("short")
        assert not page.locator("#size").is_visible()
        paste(page, "y\n" * 200_000)
        wait_for_line(page, "Not pasted: the text has 400,000 characters")
        assert value(page) == "short"
        # Files, pasted and dropped.
        page.evaluate(
            """() => {
              const dataTransfer = new DataTransfer();
              dataTransfer.items.add(new File(["x"], "cat.png", { type: "image/png" }));
              const options = { bubbles: true, cancelable: true };
              document.getElementById("input").dispatchEvent(
                new ClipboardEvent("paste", { ...options, clipboardData: dataTransfer }));
              document.getElementById("log").dispatchEvent(
                new DragEvent("drop", { ...options, dataTransfer }));
            }"""
        )
        wait_for(lambda: page.locator("#log .alarm", has_text="Files and images").count() == 2)
        # Pasted while the focus is elsewhere.
        box.fill("")
        page.locator("#talk").click()
        paste(page, "here")
        assert value(page) == "here"


def test_a_reply_quotes(browser: Browser, chat: ChatServer) -> None:
    with (
        Client(url_of(chat, "/quotes"), nick="bob"),
        window(browser, page_url(chat, "/quotes"), "ann") as page,
    ):
        # The menu of a message calls this.
        page.route(
            "**/-/app.js",
            lambda route: route.fulfill(
                response=(answer := route.fetch()),
                body=answer.text().replace("\nbegin();", "\nbegin();\nglobalThis.chat = page;"),
            ),
        )
        page.reload()
        page.get_by_placeholder("Message #quotes").wait_for()
        quote = "(quoted) => chat.composer.quote(quoted)"
        text = "> ann: old\n" + "word\n" * 60
        page.evaluate(quote, {"nick": "bob", "text": text, "offset": 1})
        bar = page.locator("#quoting")
        assert (bar.text_content() or "").strip().startswith("Reply to bob: word word")
        assert page.evaluate("document.activeElement.id") == "input"
        page.keyboard.press("Escape")
        assert not bar.is_visible()
        page.evaluate(quote, {"nick": "bob", "text": text, "offset": 1})
        page.reload()
        page.get_by_placeholder("Message #quotes").wait_for()
        bar.wait_for()
        say(page, "/names")
        wait_for_line(page, "2 connected")
        say(page, "agreed")
        wait_for_line(page, "agreed")
        assert not bar.is_visible()
        quoted = ("word " * 60)[:119]
        shown = lines(page)[-1].replace("> ", "").split()
        assert shown == f"ann: bob: {quoted}… agreed".split()


# Commands and keys.


def test_commands_of_the_page(browser: Browser, chat: ChatServer) -> None:
    with (
        Client(url_of(chat, "/tools"), nick="Bob") as bob,
        window(browser, page_url(chat, "/tools"), "ann") as page,
    ):
        enter_room(page, "workshop")
        for line, answer in [
            ("/help query", "/query [NAME]: talk with one person"),
            ("/room", "You follow tools, workshop."),
            ("/room zzz", "No room is like zzz."),
            ("/room tls", "You are now in tools."),
            ("/ignore", "You ignore nobody."),
            ("/ignore @bob:", "You ignore Bob now. /unignore Bob undoes it."),
            ("/ignore", "You ignore Bob."),
            ("/unignore bob", "You no longer ignore bob."),
            ("/unignore bob", "You do not ignore bob."),
            ("/ignore ann", "You cannot ignore yourself."),
            ("/ignore nemo", "nemo is not in this room and has sent no message."),
            ("/highlight deploy", "deploy is marked now, and rings."),
            ("/highlight", "Marked: deploy."),
            ("/unhighlight deploy", "deploy is no longer marked."),
            ("/timestamp off", "Timestamps are off."),
            ("/timestamp", "Timestamps are on."),
            ("/bell mention", "The bell is set to mention."),
            ("/bell loud", "Usage: /bell [off|mention|all]"),
            ("/bell off", "The bell is set to off."),
            ("/history many", "Usage: /history [N]"),
            ("/help", "/unhighlight WORD"),
        ]:
            say(page, line)
            wait_for_line(page, answer)
        assert page.locator("#log .help b").all_text_contents() == [
            "Messages", "Rooms", "People", "This page", "Operators",
        ]  # fmt: skip
        # A command that is unknown stays in the input, with a hint.
        say(page, "/hist 20")
        wait_for_line(page, "Unknown command /hist. Did you mean /history?")
        assert value(page) == "/hist 20"
        # Blanks in front do not make a private message public.
        say(page, "  /msg Bob between us")
        wait_for_line(page, "between us")
        say(page, "//shrug")
        wait_for_said(page, "ann: /shrug")
        # Everything goes to one person.
        say(page, "/query bob")
        page.get_by_placeholder("Private message to bob").wait_for()
        say(page, "only you")
        wait_for_line(page, "only you")
        bob.send_line("/nick rob")
        page.get_by_placeholder("Private message to rob").wait_for()
        say(page, "/me waves")
        wait_for_line(page, "/query ends the talk with rob first.")
        page.get_by_role("button", name="Write to the room again").click()
        page.get_by_placeholder("Message #tools").wait_for()
        assert lines(page) == ["ann: /shrug"]
        # An ignored person stays ignored under another nick.
        page.locator("#input").fill("")
        say(page, "/ignore rob")
        for text, nick in (("a hum", "tom"), ("a howl", "tim")):
            bob.say(text)
            bob.flush(PATIENCE)
            bob.send_line(f"/nick {nick}")
            wait_for_line(page, f"is now known as {nick}.")
            assert page.locator("#log > li", has_text=text).count() == 1
            assert not page.locator("#log > li", has_text=text).is_visible()
        say(page, "/unignore tim")
        wait_for_line(page, "a howl")
        say(page, "/quit bye")
        page.locator("#state", has_text="You have left").wait_for()
        say(page, "late")
        wait_for_line(page, "Not sent: you have left.")
        assert value(page) == "late"


def test_keys_that_go_to_the_input(browser: Browser, chat: ChatServer) -> None:
    with window(browser, page_url(chat, "/keys"), "ann") as page:
        say(page, "hello")
        wait_for_said(page, "ann: hello")
        page.locator("#log > li", has_text="hello").click()
        page.keyboard.type("typed after a click")
        assert value(page) == "typed after a click"
        # Not those of shortcuts, buttons and menus.
        page.locator("#talk").focus()
        page.keyboard.press("Control+A")
        assert page.evaluate("document.activeElement.id") == "talk"
        page.get_by_role("button", name="Room menu").click()
        page.keyboard.press("x")
        assert value(page) == "typed after a click"
        page.keyboard.press("Escape")
        # An input method's Enter takes its word and sends nothing.
        box = page.locator("#input")
        box.focus()
        session = page.context.new_cdp_session(page)
        composition = {"text": "にほ", "selectionStart": 2, "selectionEnd": 2}
        session.send("Input.imeSetComposition", composition)
        session.send(
            "Input.dispatchKeyEvent",
            {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229},
        )
        session.send("Input.insertText", {"text": "日本"})
        assert value(page) == "typed after a click日本"
        box.press("Enter")
        wait_for_said(page, "ann: typed after a click日本")
        assert lines(page) == ["ann: hello", "ann: typed after a click日本"]
        assert box.get_attribute("spellcheck") == "true"
        box.fill("/whois")
        assert box.get_attribute("spellcheck") == "false"
        assert box.get_attribute("autocapitalize") == "none"
        # A room where the user cannot speak says so, and keeps the line.
        enter_room_read_only(page)
        box.fill("but I want to")
        assert page.get_by_role("button", name="Send").get_attribute("aria-disabled") == "true"
        box.press("Enter")
        wait_for_line(page, "Not sent: this room is read-only.")
        assert value(page) == "but I want to"
        enter_room(page, "keys")


def enter_room_read_only(page: Page) -> None:
    say(page, "/join board")
    page.get_by_placeholder("You cannot speak in this room").wait_for()
