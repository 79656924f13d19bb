#!/usr/bin/env python3
"""Makes docs/page.png: a screenshot of a real browser with a real server."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import sync_playwright  # noqa: E402

from syncchat import ChatServer, Client  # noqa: E402
from syncchat.chat.events import AwayRequest, Private  # noqa: E402
from tests.windows import CHROMIUM, FLAGS, window  # noqa: E402

PICTURE = ROOT / "docs" / "page.png"


def main() -> int:
    """Write the picture."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    if CHROMIUM is None:
        print(
            "chromium not found: install it, for example Debian's package chromium", file=sys.stderr
        )
        return 1
    with ChatServer(port=0, greeting="", rate=0) as chat, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        room = f"127.0.0.1:{chat.port}/kitchen"
        with (
            Client(f"ws://{room}", nick="bob") as bob,
            Client(f"ws://{room}", nick="emil") as emil,
            window(browser, f"http://{room}", "ann", 760, 430) as page,
        ):
            page.get_by_role("textbox").fill("bob: is there any bread left?")
            page.get_by_role("textbox").press("Enter")
            page.locator("#log > li", has_text="bread left?").wait_for()
            for client, line in [
                (bob, "ann: half a loaf, in the tin behind the flour"),
                (bob, "/me puts the kettle on"),
                (emil, "Good morning! I have brought cheese: https://example.org/market"),
            ]:
                client.send_line(line)
                client.flush()
            emil.ask(Private("ann", "keep some for Sunday"))
            emil.ask(AwayRequest("back to the market"))
            page.locator("#log > li", has_text="back to the market").wait_for()
            page.get_by_role("textbox").press_sequentially("/m")
            page.get_by_role("option").first.wait_for()
            page.screenshot(path=path)
        browser.close()
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
