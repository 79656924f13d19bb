"""Windows of a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.peer import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = ["CHROMIUM", "FLAGS", "window"]

#: The chromium of the system, if there is one.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: No requests to other machines, and no sandbox if the tests run as root.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@contextmanager
def window(
    browser: Browser,
    url: str,
    nick: str | None = "ann",
    width: int = 900,
    height: int = 600,
    *,
    phone: bool = False,
) -> Iterator[Page]:
    """A window with a profile of its own, in which no error may occur. ``phone``: it is touched."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=phone, is_mobile=phone
    )
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on(
        "console",
        lambda message: (
            wrong.append(message.text)
            # The browser's own error for a missing server or token.
            if message.type == "error"
            and "Failed to load" not in message.text
            and "WebSocket connection" not in message.text
            else None
        ),
    )
    try:
        page.goto(url)
        if nick is not None:
            page.get_by_label("Your name").fill(nick)
            page.get_by_role("button", name="Join", exact=True).click()
            page.locator("#state", has_text=re.compile(rf"^{re.escape(nick)}")).wait_for()
        yield page
        assert wrong == []
    finally:
        context.close()
