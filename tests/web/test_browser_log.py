"""The log of the page: a window over all messages, how they look, and what they cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from syncchat import ChatServer, Client
from syncchat.engine import Retention
from tests.peer import PATIENCE, wait_for
from tests.people import url_of
from tests.web.pages import lines, page_url, say, wait_for_line
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

NEEDLE = " a needle, here\n```\nx = 1\n```"
TRACEBACK = """Traceback (most recent call last):
  File "run.py", line 12, in main
    raise ValueError("bad")
ValueError: bad"""

#: The time of the longest task, in milliseconds.
WATCH = """
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
    }).observe({ type: "longtask" });
"""


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer(port=0, greeting="", rate=0, notices=False) as chat:
        yield chat


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """The path of a room of the test's own."""
    return f"/{request.node.name.removeprefix('test_')[:30]}"


@pytest.fixture
def ann(browser: Browser, chat: ChatServer, room: str) -> Iterator[Page]:
    with window(browser, page_url(chat, room), "ann", 1280, 600) as page:
        yield page


def offsets(page: Page) -> list[int]:
    found: list[int] = page.locator("#log").evaluate(
        "(list) => [...list.querySelectorAll('[data-offset]')].map((item) => +item.dataset.offset)"
    )
    return found


def scroll(page: Page, top: int) -> None:
    page.evaluate("(top) => { document.getElementById('talk').scrollTop = top; }", top)


def heap(page: Page) -> tuple[float, int]:
    """The megabytes of the heap, and the number of nodes."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: dict[str, Any] = session.send("Runtime.getHeapUsage")
    nodes = session.send("Memory.getDOMCounters")["nodes"]
    return used["usedSize"] / 1e6, nodes


# Defects 2 and 4: the window over the log.


def test_the_window_moves_over_the_whole_log(browser: Browser) -> None:
    keep = Retention(messages=2000)
    with ChatServer(port=0, greeting="", rate=0, notices=False, keep=keep) as chat:
        for number in range(1, 1501):
            chat.say(f"message {number}.")
        with window(browser, page_url(chat), "ann") as page:
            wait_for_line(page, "message 1500.")
            most = 0
            while (first := offsets(page)[0]) > 1:
                # The message that the user reads stays where it is.
                scroll(page, 300)
                top = page.evaluate(
                    """async (first) => {
                      const item = document.querySelector(`[data-offset="${first + 8}"]`);
                      const talk = document.getElementById("talk");
                      const before = item.getBoundingClientRect().top;
                      const shown = () => document.querySelector("[data-offset]").dataset.offset;
                      for (let n = 0; n < 200 && +shown() === first; n += 1)
                        await new Promise(requestAnimationFrame);
                      return Math.abs(item.getBoundingClientRect().top - before);
                    }""",
                    first,
                )
                assert top <= 2
                shown = offsets(page)
                assert shown == list(range(shown[0], shown[0] + len(shown)))
                most = max(most, len(shown))
            assert most <= 500
            page.get_by_text("Beginning of the history.").wait_for()
            chat.say("meanwhile")
            page.get_by_role("button", name="1 new message below").wait_for()
            assert page.get_by_text("meanwhile").count() == 0
            # Down again, to the newest one.
            while (last := offsets(page)[-1]) < 1501:
                scroll(page, 10_000_000)
                wait_for(lambda last=last: offsets(page)[-1] != last)  # type: ignore[misc]
                shown = offsets(page)
                assert shown == list(range(shown[0], shown[0] + len(shown)))
            page.locator("#newest").wait_for(state="hidden")
            say(page, "here")
            wait_for_line(page, "here")
            # The button goes there at once.
            scroll(page, 0)
            wait_for(lambda: offsets(page)[-1] < 1502)
            chat.say("the end")
            page.get_by_role("button", name="1 new message below").click()
            page.locator("#log", has_text="the end").wait_for()
            assert lines(page)[-1] == "server: the end"
            page.locator("#newest").wait_for(state="hidden")


def test_messages_that_exceed_an_answer_leave_no_hole(browser: Browser) -> None:
    with ChatServer(port=0, greeting="", rate=0, notices=False) as chat:
        # The server sends one such message at a time, and it takes little space here.
        large = "\u200d" * 55_000
        for number in range(1, 17):
            chat.say(f"message {number}. {large}")
        with window(browser, page_url(chat), "ann") as page:
            wait_for_line(page, "message 16.")
            wait_for(
                lambda: page.evaluate(
                    "(({ scrollHeight, clientHeight }) => scrollHeight - clientHeight)"
                    "(document.getElementById('talk')) >= 400"
                ),
                "something to scroll",
            )
            page.evaluate("location.hash = '#4'")
            wait_for(lambda: page.evaluate("document.activeElement.dataset.offset") == "4")
            while (last := offsets(page)[-1]) < 16:
                scroll(page, 10_000_000)
                wait_for(lambda last=last: offsets(page)[-1] != last)  # type: ignore[misc]
                shown = offsets(page)
                assert shown == list(range(shown[0], shown[0] + len(shown)))
            # The number counts from the end, also if nothing is shown.
            say(page, "/clear")
            wait_for(lambda: offsets(page) == [])
            say(page, "/history 12")
            wait_for(lambda: page.evaluate("document.activeElement.dataset.offset") == "5")


def test_a_search_leads_to_the_message_in_its_context(
    chat: ChatServer, ann: Page, room: str
) -> None:
    # In the list of messages, a long one is folded before the needle.
    said = {55: " hay" * 600 + " and a needle", 57: NEEDLE}
    for number in range(1, 401):
        chat.say(f"message {number}.{said.get(number, '')}", room=room[1:])
    wait_for_line(ann, "message 400.")
    say(ann, "/search nothing")
    ann.get_by_text("No messages found.").wait_for()
    field = ann.get_by_role("searchbox", name="Search in this room")
    field.fill("needle")
    found = ann.get_by_role("list", name="Messages found").get_by_role("listitem")
    found.get_by_text("needle").first.wait_for()
    assert found.locator("mark").all_text_contents() == ["needle", "needle"]
    assert found.locator(".text").last.text_content() == "…y" + " hay" * 13 + " and a needle"
    # Its button can be read, as in the list of messages.
    color = "(element) => getComputedStyle(element).color"
    copy = found.get_by_role("button", name="Copy code")
    assert copy.evaluate(color) == found.locator("pre").evaluate(color)
    ann.keyboard.press("ArrowDown")
    ann.keyboard.press("Enter")
    wait_for(lambda: ann.evaluate("document.activeElement.dataset.offset") == "57")
    wait_for(lambda: 56 in offsets(ann) and 58 in offsets(ann))
    box = ann.locator("#talk").bounding_box()
    item = ann.locator("[data-offset='57']").bounding_box()
    assert box
    assert item
    assert box["y"] < item["y"] < box["y"] + box["height"]
    field.focus()
    ann.keyboard.press("Escape")
    assert not field.is_visible()
    say(ann, "done")
    wait_for_line(ann, "done")
    assert lines(ann)[-1] == "ann: done"
    # Some back, from where the user is.
    say(ann, "/history")
    wait_for(
        lambda: (
            350 in offsets(ann) and ann.evaluate("document.getElementById('talk').scrollTop") > 0
        )
    )


# Defect 2: what a message costs.


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_a_member_cannot_freeze_the_page(browser: Browser) -> None:
    with ChatServer(port=0, greeting="", rate=0, notices=False) as chat:
        for _ in range(60):
            chat.say("http://a " * 7200)
        with window(browser, "about:blank", None) as page:
            page.add_init_script(WATCH)
            page.goto(page_url(chat))
            page.get_by_label("Your name").fill("ann")
            page.keyboard.press("Enter")
            wait_for_line(page, "http://a")
            for _ in range(40):
                chat.say("http://a " * 7200)
            for _ in range(20):
                chat.say("ann " * 15_000)
            chat.say("\n".join(f"line {number}" for number in range(400)))
            chat.say("the end")
            wait_for_line(page, "the end")
            for _ in range(3):
                first = offsets(page)[0]
                scroll(page, 0)
                wait_for(lambda first=first: offsets(page)[0] < first)  # type: ignore[misc]
            page.get_by_role("button", name="To the newest messages").click()
            wait_for_line(page, "the end")
            assert page.evaluate("longest") < 200
            used, nodes = heap(page)
            assert used < 100
            assert nodes < 60_000
            last = page.locator("#log > .said", has_text="line 5")
            height = (last.bounding_box() or {"height": 0})["height"]
            assert height < 500
            assert page.locator("#log > .said", has_text="http").last.locator("a").count() <= 50
            marks = page.locator("#log > .mentions").last.locator("mark")
            assert marks.count() <= 50
            last.get_by_role("button", name="Show all").click()
            last.get_by_text("line 399").wait_for()
            assert page.evaluate("longest") < 200
            last.get_by_role("button", name="Show less").click()
            wait_for(lambda: (last.bounding_box() or {"height": 0})["height"] == height)


# Defects 6 and 7, and how messages look.


def test_messages_are_grouped_and_nothing_poses_as_another_speaker(
    chat: ChatServer, ann: Page, room: str
) -> None:
    with (
        Client(url_of(chat, room), nick="bob") as bob,
        Client(url_of(chat, room), nick="אבג") as abg,
    ):
        for text in ("ok\n3:20 PM  ann: I resign", "second", "third"):
            bob.say(text)
        bob.flush(PATIENCE)
        bob.act("waves")
        bob.flush(PATIENCE)
        abg.say("456, 789")
        abg.flush(PATIENCE)
        bob.say("> אבג: 456, 789\nyes")
        bob.say(f"see\n{TRACEBACK}\nand `x = 1` or\n```py\nfor n in 3:\n    y\n```")
        bob.flush(PATIENCE)
        bob.send_line("/msg ann psst")
        bob.flush(PATIENCE)
    wait_for_line(ann, "from bob: psst")
    wait_for_line(ann, "for n in 3")
    said = ann.locator("#log > .said")
    assert said.count() == 6
    assert ann.locator("#log > .said.continued").count() == 3
    # Every character of a text is right of the place where nicks and times begin.
    edges = ann.evaluate(
        """() => [...document.querySelectorAll("#log > .said")].map((item) => {
          const range = document.createRange();
          range.selectNodeContents(item.querySelector(".text"));
          const lefts = [...range.getClientRects()].map(({ left }) => left);
          return Math.min(...lefts) - item.getBoundingClientRect().left;
        })"""
    )
    assert min(edges) >= 40
    # An action has all of the width, from its second line on.
    waves = ann.locator("#log > .action > .text").first
    assert waves.evaluate("(text) => getComputedStyle(text).display") == "inline"
    # The time of a message within a group shows when it is focused, and is there to be read.
    second = said.nth(1)
    assert re.match(r"\d+:\d\d", second.text_content() or "")
    assert second.locator("time").evaluate("(time) => getComputedStyle(time).opacity") == "0"
    second.focus()
    assert second.locator("time").evaluate("(time) => getComputedStyle(time).opacity") == "1"
    # Numbers behind a Hebrew nick keep their order.
    hebrew = ann.locator("#log > .said", has_text="456, 789").first.locator(".text")
    places = hebrew.evaluate(
        """(text) => [0, 5].map((at) => {
          const range = document.createRange();
          range.setStart(text.firstChild, at);
          range.setEnd(text.firstChild, at + 1);
          return range.getBoundingClientRect().left;
        })"""
    )
    assert places == sorted(places)
    assert ann.locator("#log button.nick > bdi", has_text="אבג").count() == 1
    assert ann.locator("#log blockquote").text_content() == "> אבג: 456, 789"
    assert ann.locator("#log pre").all_text_contents() == [TRACEBACK, "for n in 3:\n    y"]
    assert "x = 1" in ann.locator("#log p code").all_text_contents()
    # The list is a list, and the live region is apart from it.
    chat.say("the end, `x`", room=room[1:])
    ann.get_by_role("log").get_by_text("server: the end").wait_for()
    alone = ann.locator("#log .plain > code")
    assert alone.evaluate("(code) => getComputedStyle(code).borderTopStyle") == "solid"
    assert ann.get_by_role("log").locator("li").count() == 0
    assert ann.locator("#log").get_by_role("listitem").count() >= 8
    ann.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # With the keys: the messages, the menu of one, and back to the input.
    ann.get_by_label("Messages", exact=True).focus()
    for key in ("ArrowUp", "ArrowUp", "Enter"):
        ann.keyboard.press(key)
    chosen = ann.locator("li:has([aria-expanded=true])").get_attribute("data-offset")
    ann.get_by_role("menuitem", name="Copy link").click()
    link = ann.evaluate("navigator.clipboard.readText()")
    assert link == f"{page_url(chat, room)}#{chosen}"
    ann.keyboard.press("Escape")
    assert ann.evaluate("document.activeElement.id") == "input"
    ann.get_by_role("button", name="Copy code").last.click()
    ann.get_by_role("button", name="Copied").wait_for()
    assert ann.evaluate("navigator.clipboard.readText()") == "for n in 3:\n    y"
    copied = ann.evaluate(
        """() => {
          const [one, , , four] = document.querySelectorAll("#log > .said .text");
          getSelection().setBaseAndExtent(one.firstChild, 0, four.firstChild, 3);
          const data = new DataTransfer();
          const how = { clipboardData: data, bubbles: true, cancelable: true };
          one.dispatchEvent(new ClipboardEvent("copy", how));
          return data.getData("text/plain");
        }"""
    )
    copied = re.sub(r"\[\d+:\d\d(\s[AP]M)?\]", "[T]", copied)
    assert copied == (
        "[T] bob: ok\n    3:20 PM  ann: I resign\n[T] bob: second\n[T] bob: third\n"
        "[T] ** bob waves\n[T] אבג: 456"
    )


def test_settings_hide_times_and_ignored_people(chat: ChatServer, ann: Page, room: str) -> None:
    with (
        Client(url_of(chat, room), nick="bob") as bob,
        Client(url_of(chat, room), nick="eve") as eve,
    ):
        bob.say("one")
        bob.flush(PATIENCE)
        eve.say("noise")
        eve.flush(PATIENCE)
        bob.say("all about cheese")
        bob.flush(PATIENCE)
    wait_for_line(ann, "cheese")
    # As another tab does it.
    set_name = """([name, value]) => {
      localStorage.setItem(`syncchat.set.${name}`, JSON.stringify(value));
      dispatchEvent(new StorageEvent("storage", { key: `syncchat.set.${name}` }));
    }"""
    ann.evaluate(set_name, ["ignored", ["EVE"]])
    ann.evaluate(set_name, ["highlights", ["cheese"]])
    ann.evaluate(set_name, ["times", False])
    assert not ann.locator("#log > li", has_text="noise").is_visible()
    assert ann.locator("#log > .continued", has_text="cheese").count() == 1
    assert ann.locator("#log mark").all_text_contents() == ["cheese"]
    assert not ann.locator("#log time").first.is_visible()
    for name, value in (("ignored", []), ("highlights", []), ("times", True)):
        ann.evaluate(set_name, [name, value])
    assert ann.locator("#log > li", has_text="noise").is_visible()
    assert ann.locator("#log mark").count() == 0
    # Whatever is hidden, a message shows who says it.
    ann.evaluate(set_name, ["ignored", ["bob"]])
    assert ann.locator("#log > .continued:visible").count() == 0
    assert ann.locator("#log > .said:visible").count() == 1
    ann.evaluate(set_name, ["ignored", []])
    # People who come and go in a row are one line.
    assert ann.locator("#log > .notice").count() <= 1
