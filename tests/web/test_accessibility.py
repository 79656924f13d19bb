"""The page breaks no rule of axe-core, in any state, in both colour schemes and both browsers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from syncchat import ChatServer
from tests.web.axe import violations
from tests.web.both import AnyBrowser, Window, wait_until
from tests.web.pages import page_url

pytestmark = pytest.mark.slow


def talk(window: Window) -> None:
    """Messages, notices and answers are shown."""
    window.click("#input")
    for line in ("hello ann, see https://example.org/", "/me waves", "/names", "/nonsense"):
        window.type(line)
        window.press("Enter")
    wait_until(window, "/nonsense/.test(document.querySelector('#log').innerText)")
    window.evaluate("document.querySelector('#input').value = ''")


def completions(window: Window) -> None:
    """The words that complete a command are offered."""
    window.click("#input")
    window.type("/m")
    wait_until(window, "document.querySelector('[role=listbox]').checkVisibility()")


def people(window: Window) -> None:
    """The people are shown, also on a narrow screen."""
    window.evaluate("document.querySelector('#input').value = ''")
    window.click("#who")
    wait_until(window, "document.querySelector('#people').checkVisibility()")


def person_menu(window: Window) -> None:
    """The menu of a person is open."""
    window.click("#names button")
    wait_until(window, "document.querySelector('[role=menu]')")


def search(window: Window) -> None:
    """Messages are found."""
    window.press("Escape")
    window.press("Escape")
    window.click("#search-open")
    window.type("hello")
    window.press("Enter")
    wait_until(window, "document.querySelector('#found > li')")


def switcher(window: Window) -> None:
    """Rooms and people are offered."""
    window.press("Escape")
    window.press("Control+k")
    wait_until(window, "document.querySelector('.switcher [role=option]')")


def settings(window: Window) -> None:
    """The settings are open."""
    window.press("Escape")
    window.click("#settings-open")
    wait_until(window, "document.querySelector('.settings[open]')")


def reply(window: Window) -> None:
    """A reply to a message is begun, from its menu."""
    window.press("Escape")
    window.click("#log [data-offset] time")
    wait_until(window, "document.querySelector('[role=menu]')")
    window.press("Enter")
    wait_until(window, "document.querySelector('#quoting').checkVisibility()")


#: Each state follows the one before. The test has the dialog and the lost connection.
STATES: dict[str, Callable[[Window], None]] = {
    "talk": talk,
    "completions": completions,
    "people": people,
    "menu of a person": person_menu,
    "search": search,
    "switcher": switcher,
    "settings": settings,
    "reply": reply,
}


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer(port=0) as chat:
        chat.say('Good morning. `code`, and a second line:\n  File "x.py", line 3')
        for room in ("ops", "kitchen"):
            chat.say("hello", room=room)
        yield chat


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_state_breaks_a_rule(any_browser: AnyBrowser, chat: ChatServer, scheme: str) -> None:
    """Issue 20: axe-core finds no violation."""
    found: list[str] = []

    def check(window: Window, state: str) -> None:
        found.extend(f"{state}: {each}" for each in violations(window))

    with any_browser.window(page_url(chat), None, 390, 700, scheme) as window:
        dark = window.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert dark == (scheme == "dark")
        wait_until(window, "document.querySelector('dialog[open]')")
        check(window, "dialog")
        window.press("Enter")
        check(window, "dialog with a complaint")
        window.type("ann")
        window.press("Enter")
        wait_until(window, "!document.querySelector('dialog[open]')")
        for state, enter in STATES.items():
            enter(window)
            check(window, state)
    with (
        ChatServer(port=0) as lost,
        any_browser.window(page_url(lost), "bob", scheme=scheme) as window,
    ):
        wait_until(window, "/bob/.test(document.querySelector('#state').innerText)")
        lost.stop()
        wait_until(window, "/reconnect/i.test(document.querySelector('#state').innerText)")
        check(window, "connection lost")
    assert found == [], "\n".join(found)
