"""One interface to windows of Chromium and of Firefox, for tests that run in both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tests.peer import PATIENCE, wait_for
from tests.web.firefox import RunningFirefox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

__all__ = ["AnyBrowser", "Window", "wait_until"]

#: A browser's own errors for a missing server, or for a wrong token.
_EXPECTED = ("Failed to load", "WebSocket connection")


class Window(Protocol):
    """A window whose storage no other window has. Selectors are those of CSS."""

    def goto(self, url: str) -> None:
        """Load the page, and wait until it is complete."""

    def reload(self) -> None:
        """Load the page again, and wait until it is complete."""

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, or of its promise; of what JSON has."""

    def click(self, selector: str) -> None:
        """Wait until the first such element is visible, and click on it."""

    def type(self, text: str) -> None:
        """Type ``text`` into the element that has the focus."""

    def press(self, keys: str) -> None:
        """Press a key, such as ``Enter`` or ``a``, or several, such as ``Control+k``."""

    def screenshot(self) -> bytes:
        """A picture of what is visible, a PNG."""

    def errors(self) -> list[str]:
        """The errors of the page's scripts so far, but for those of a missing server."""


def wait_until(window: Window, expression: str) -> None:
    """Wait until an expression of JavaScript is true."""
    wait_for(lambda: window.evaluate(f"!!({expression})"), expression)


class AnyBrowser:
    """Chromium or Firefox."""

    def __init__(self, browser: Browser | RunningFirefox) -> None:
        self._browser = browser
        self.name = "firefox" if isinstance(browser, RunningFirefox) else "chromium"

    @contextmanager
    def window(
        self,
        url: str,
        nick: str | None = None,
        width: int = 900,
        height: int = 600,
        scheme: str = "light",
    ) -> Iterator[Window]:
        """A window in which no error of a script may occur.

        ``nick``: what to answer to the page's first question. ``scheme`` is ``light`` or ``dark``.
        """
        with self._open(url, width, height, scheme) as window:
            if nick is not None:
                window.click("dialog[open] input")
                window.type(nick)
                window.press("Enter")
                wait_until(window, "!document.querySelector('dialog[open]')")
            yield window
            errors = window.errors()
            assert errors == [], "\n".join(errors)

    @contextmanager
    def _open(self, url: str, width: int, height: int, scheme: str) -> Iterator[Window]:
        if isinstance(self._browser, RunningFirefox):
            with self._browser.window(url, width, height, scheme) as window:
                yield window
            return
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        context.set_default_timeout(PATIENCE * 1000)
        try:
            chromium_window = _ChromiumWindow(context.new_page())
            chromium_window.goto(url)
            yield chromium_window
        finally:
            context.close()


class _ChromiumWindow:
    def __init__(self, page: Page) -> None:
        self._page = page
        self._errors: list[str] = []
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("console", self._note)

    def goto(self, url: str) -> None:
        self._page.goto(url)

    def reload(self) -> None:
        self._page.reload()

    def evaluate(self, expression: str) -> Any:
        return self._page.evaluate(f"async () => ({expression})")

    def click(self, selector: str) -> None:
        self._page.locator(selector).first.click()

    def type(self, text: str) -> None:
        self._page.keyboard.type(text)

    def press(self, keys: str) -> None:
        self._page.keyboard.press(keys)

    def screenshot(self) -> bytes:
        return self._page.screenshot()

    def errors(self) -> list[str]:
        return self._errors

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(each in message.text for each in _EXPECTED):
            self._errors.append(message.text)
