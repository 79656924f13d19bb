"""How the page is served."""

from __future__ import annotations

import re

from syncchat import ChatServer
from tests.peer import ask_http
from tests.processes import ROOT, ServerScript


def test_the_page_and_its_parts_have_strict_headers_and_etags() -> None:
    with ChatServer(port=0) as chat:
        parts = [path.name for path in (ROOT / "syncchat" / "web" / "page").iterdir()]
        parts.remove("index.html")
        for path in ["/", "/kitchen", "/%23A%2Bb", *(f"/-/{name}" for name in parts)]:
            status, headers, body = ask_http(chat.port, path)
            assert (status, headers["x-content-type-options"]) == (200, "nosniff")
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert int(headers["content-length"]) == len(body) > 100
            tag = headers["etag"]
            for known in (tag, f'W/{tag}, "other"', "*"):
                assert ask_http(chat.port, path, If_None_Match=known)[::2] == (304, b"")
            assert ask_http(chat.port, path, If_None_Match='"other"')[0] == 200
            assert ask_http(chat.port, path, "HEAD")[::2] == (200, b"")
            status, headers, _ = ask_http(chat.port, path, "PUT")
            assert status == 405
            assert headers["allow"].startswith("GET, HEAD")
        policy = ask_http(chat.port, "/", Host="localhost")[1]["content-security-policy"]
        assert "connect-src 'self' ws://localhost wss://localhost;" in policy
        for path in ("/a/b", "/-/nothing", "/-/../server.py", "/-/", "/" + "x" * 200):
            assert ask_http(chat.port, path)[0] == 404, path
        for place in re.findall(rb'(?:src|href)="([^"]+)"', ask_http(chat.port, "/")[2]):
            assert place.startswith(b"-/")


def test_a_server_without_the_page_answers_with_a_hint() -> None:
    with ServerScript("--no-web") as server:
        for path in ("/", "/kitchen", "/-/app.js"):
            status, headers, body = ask_http(server.port, path)
            assert (status, body[:21]) == (426, b"This is a chat server")
            assert (headers["upgrade"], headers["connection"]) == ("websocket", "Upgrade")
        assert ask_http(server.port, "/healthz")[0] == 200
    with ServerScript(SYNCCHAT_WEB="no") as server:
        assert ask_http(server.port, "/")[0] == 426
