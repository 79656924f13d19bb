#!/usr/bin/env python3
"""Makes docs/page.png, page-dark.png and page-phone.png: a real browser with a real server."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import sync_playwright  # noqa: E402

from syncchat import ChatServer, Client  # noqa: E402
from tests.windows import CHROMIUM, FLAGS, window  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: The end of each picture's name, the theme, and the size of the window.
PICTURES = [("", "light", 1120, 640), ("-dark", "dark", 1120, 640), ("-phone", "light", 390, 760)]

TALK = [
    ("bob", "Good morning! The build on main is green again."),
    ("carla", "What was it?"),
    ("bob", "A test that waited for a port which nobody opened:"),
    ("bob", "https://ci.example.org/4711"),
    ("dmitri", "I saw the same on my branch, so it was not only the runner."),
    ("emil", "ann: can you look at the release notes before lunch?"),
    ("grace", "/me puts the kettle on"),
    (
        "fatima",
        "The deployment is at 15:00. I will write here when it is done, so nobody needs to wait.",
    ),
]


def main() -> int:
    """Write the pictures into docs/, or into the directory of the first argument."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    if CHROMIUM is None:
        print(
            "chromium not found: install it, for example Debian's package chromium", file=sys.stderr
        )
        return 1
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for end, theme, width, height in PICTURES:
            path = directory / f"page{end}.png"
            take(browser, theme, (width, height), path)
            print(path)
        browser.close()
    return 0


def take(browser: Browser, theme: str, size: tuple[int, int], path: Path) -> None:
    """Take a picture of the page of ann, who follows three rooms."""
    with ExitStack() as stack:
        chat = stack.enter_context(ChatServer(port=0, greeting="", rate=0))
        host = f"127.0.0.1:{chat.port}"
        nicks = dict.fromkeys(nick for nick, _ in TALK)
        clients = {
            nick: stack.enter_context(Client(f"ws://{host}/builds", nick=nick)) for nick in nicks
        }
        for nick, line in TALK:
            clients[nick].send_line(line)
            clients[nick].flush()
        clients["emil"].send_line("/away lunch")
        phone = size[0] < 500
        url = f"http://{host}/lobby"
        page = stack.enter_context(window(browser, url, "ann", *size, phone=phone))
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        for room in ("kitchen", "builds"):
            say(page, f"/join {room}")
            page.get_by_role("heading", name=room, exact=True).wait_for()
        page.locator("#log", has_text=TALK[-1][1]).wait_for()
        chat.say("There is bread, and half a cheese.", room="kitchen")
        chat.say("ann: welcome!", room="lobby")
        page.locator("#followed .mentioned").wait_for(state="attached")
        page.locator("#followed .unread").wait_for(state="attached")
        say(page, "Green is a good colour. I read the notes now.")
        page.locator("#waiting > li").wait_for(state="detached")
        page.locator("#names", has_text="away").wait_for(state="attached")
        page.mouse.move(1, 1)
        page.screenshot(path=path)


def say(page: Page, text: str) -> None:
    page.locator("#input").fill(text)
    page.locator("#input").press("Enter")


if __name__ == "__main__":
    sys.exit(main())
