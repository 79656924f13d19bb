"""Helpers for the browser page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from syncchat import ChatServer
from tests.processes import ServerScript

if TYPE_CHECKING:
    from playwright.sync_api import Page


def page_url(chat: ChatServer | ServerScript, path: str = "/") -> str:
    return f"http://127.0.0.1:{chat.port}{path}"


def say(page: Page, text: str) -> None:
    page.get_by_role("textbox").fill(text)
    page.get_by_role("textbox").press("Enter")


def lines(page: Page) -> list[str]:
    """Messages and actions, without their times."""
    return [
        re.sub(r"^\d+:\d\d(\s[AP]M)?", "", text).strip()
        for text in page.locator("#log > .said, #log > .action").all_text_contents()
    ]


def wait_for_line(page: Page, text: str) -> None:
    page.locator("#log > li", has_text=text).first.wait_for()
