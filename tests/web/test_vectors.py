"""The page's state machine passes the test vectors, like that of the Python client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from syncchat import ChatServer
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = Path(__file__).parent
VECTORS = json.loads((HERE.parent / "client" / "vectors.json").read_text("utf-8"))


def test_the_page_passes_the_vectors(browser: Browser) -> None:
    scenarios = [each for each in VECTORS["scenarios"] if "page" in each.get("for", ["page"])]
    vectors = {"defaults": VECTORS["defaults"], "scenarios": scenarios}
    play = (HERE / "play_vectors.js").read_text("utf-8")
    with ChatServer(port=0) as chat:
        with window(browser, f"http://127.0.0.1:{chat.port}/", None) as page:
            failures = page.evaluate(play, {**vectors, "module": "/-/protocol.js"})
    assert len(scenarios) >= 40
    assert "\n".join(failures) == ""
