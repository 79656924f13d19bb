"""Helpers for the browser page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncchat import ChatServer
from tests.processes import ServerScript

if TYPE_CHECKING:
    from playwright.sync_api import Page


def page_url(chat: ChatServer | ServerScript, path: str = "/") -> str:
    return f"http://127.0.0.1:{chat.port}{path}"


def say(page: Page, text: str) -> None:
    page.locator("#input").fill(text)
    page.locator("#input").press("Enter")


#: Each message as a plain client gets it.
_LINES = """() => [...document.querySelectorAll("#log > :is(.said, .action)")].map((item) => {
  const time = item.querySelector("time").textContent.length;
  return item.textContent.slice(time).trim();
})"""


def lines(page: Page) -> list[str]:
    """Messages and actions, without their times."""
    shown: list[str] = page.evaluate(_LINES)
    return shown


def wait_for_line(page: Page, text: str) -> None:
    page.locator("#log > li", has_text=text).first.wait_for()
