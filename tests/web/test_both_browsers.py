"""The page in Chromium and in Firefox."""

from __future__ import annotations

import pytest

from syncchat import ChatServer
from syncchat.net import Request, Response, Route
from tests.web.both import AnyBrowser, wait_until
from tests.web.pages import page_url

pytestmark = pytest.mark.slow


def origin(request: Request) -> Response:
    return Response(request.headers.get("origin", ""))


def test_two_people_talk(any_browser: AnyBrowser) -> None:
    """Issue 20: on a phone and on a desktop, dark and light."""
    with (
        ChatServer(port=0, greeting="", routes={"/-/origin": Route(origin, ("POST",))}) as chat,
        any_browser.window(page_url(chat, "/ops"), "ann", 390, 700, "dark") as ann,
        any_browser.window(page_url(chat, "/ops"), "bob", 1280, 800) as bob,
    ):
        for window, size, dark in ((ann, 390, True), (bob, 1280, False)):
            assert window.evaluate("innerWidth") == size
            if any_browser.name == "chromium":
                scheme = "matchMedia('(prefers-color-scheme: dark)').matches"
                assert window.evaluate(scheme) is dark
        ann.click("#input")
        ann.type("Grüße")
        ann.press("Shift+Enter")
        ann.type("zwei")
        ann.press("Enter")
        for window in (ann, bob):
            wait_until(window, "document.querySelector('#log').innerText.includes('Grüße\\nzwei')")
        bob.reload()
        wait_until(bob, "document.querySelector('#log').innerText.includes('Grüße')")
        assert bob.evaluate("Promise.resolve([1, null])") == [1, None]
        assert bob.evaluate("undefined") is None
        assert bob.screenshot().startswith(b"\x89PNG")
        # A browser sends the origin with POST, which /-/auth needs.
        sent = bob.evaluate("fetch('-/origin', {method: 'POST'}).then((it) => it.text())")
        assert sent == page_url(chat, "")
        ann.evaluate("console.error('planted')")
        assert any("planted" in error for error in ann.errors())
        ann.errors().clear()
