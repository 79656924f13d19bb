"""Hostile texts on the page; its size, its colors, and what it loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from syncchat import ChatServer, Client
from tests.peer import PATIENCE, wait_for
from tests.people import url_of
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser
from tests.web.pages import lines, page_url, say, wait_for_line

pytestmark = pytest.mark.slow


# Hostile texts.

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


def test_strangers_cannot_inject_markup(browser: Browser) -> None:
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
        assert page.get_by_role("heading", level=1).text_content() == "&lt;b&gt;room"
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


def test_long_and_strange_texts_do_not_block_the_page(browser: Browser) -> None:
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
            "```\na" + "\u0301" * 1_000 + "\n```",
        ]:
            chat.say(text)
        chat.say("hi a-b.c+!")
        wait_for_line(page, "hi a-b.c+!")
        assert page.locator("#log mark").last.text_content() == "a-b.c+"
        assert page.locator("#log pre").text_content() == "a" + "\u0301" * 8
        say(page, "/constructor")
        wait_for_line(page, "Unknown command /constructor.")
        page.locator("#input").fill("x" * 70_000)
        page.locator("#input").press("Enter")
        wait_for_line(page, "Not sent: it exceeds the limit of 65536 bytes for a message.")
        say(page, "still here")
        wait_for_line(page, "still here")


@pytest.mark.timeout(120)
def test_ten_thousand_messages_keep_the_list_short(browser: Browser) -> None:
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
        # Scrolling back keeps the position, and a button leads to the end.
        page.evaluate("document.getElementById('talk').scrollTop = 300")
        chat.say("unseen")
        page.get_by_role("button", name="1 new message below").click()
        page.locator("#log > li", has_text="unseen").wait_for()
        page.locator("#newest").wait_for(state="hidden")


# Appearance.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser: Browser, scheme: str) -> None:
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


def test_every_control_has_an_accessible_name(browser: Browser) -> None:
    with ChatServer(port=0) as chat, window(browser, page_url(chat), "ann") as page:
        log = page.get_by_role("log")
        assert log.get_attribute("aria-live") == "polite"
        page.locator("#input").wait_for()
        page.get_by_role("button", name="Send").wait_for()
        page.get_by_role("complementary", name="People in this room").wait_for()
        assert page.get_by_role("status").text_content() == "ann"
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, textarea')]"
            ".filter((each) => !each.labels?.length && !each.ariaLabel"
            " && !each.textContent.trim()).length"
        )
        assert unnamed == 0


def test_nothing_is_loaded_from_other_hosts(browser: Browser) -> None:
    asked: list[str] = []
    with ChatServer(port=0) as chat, window(browser, "about:blank", None) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_url(chat))
        page.get_by_label("Your name").wait_for()
        assert {f"{page_url(chat)}-/app.js", page_url(chat)} <= set(asked)
        assert [url for url in asked if not url.startswith(page_url(chat))] == []
