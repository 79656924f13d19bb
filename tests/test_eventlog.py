"""The server's log, as lines and as JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path

from syncchat import ChatServer
from tests.people import Json, Plain, settled, url_of

# The log.


def test_the_log_can_be_json(tmp_path: Path) -> None:
    lines: list[str] = []
    with (
        ChatServer(port=0, log=lines.append, log_json=True) as chat,
        Json(url_of(chat, "/ops?nick=ann")) as ann,
    ):
        ann.event("welcome")
        ann.ask(type="say", text="a\nb")
        ann.event("message")
        ann.ask(type="private", to="ann", text="between us")
        ann.event("private")
        who = ann.address
        ann.websocket.close()
        settled(chat, 0)
        events = [json.loads(line) for line in lines]
        assert all(abs(event.pop("time") - time.time()) < 60 for event in events)
        assert events == [
            {"event": "listening", "port": chat.port, "url": f"http://127.0.0.1:{chat.port}/"},
            {"event": "storage", "text": "memory: until the server stops"},
            {"event": "connected", "client": who},
            {"event": "received", "client": who, "nick": "ann", "room": "ops", "text": "a\nb"},
            {"event": "disconnected", "client": who},
        ]


def test_the_json_log_is_safe_on_a_terminal() -> None:
    lines: list[str] = []
    with (
        ChatServer(port=0, log=lines.append, log_json=True) as chat,
        Plain(url_of(chat, "/%e2%82%ac?nick=ann")) as ann,
    ):
        ann.hear()
        text = "\x9b31m\x7f\u202e\u2028\x1b[2J\U000e0041"
        ann.send(text)
        ann.hear()
        assert all(line.isascii() and line.isprintable() for line in lines)
        assert json.loads(lines[-1])["text"] == text


def test_messages_of_json_clients_are_logged_like_any_other() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append) as chat, Json(url_of(chat)) as client:
        client.event("welcome")
        client.ask(type="say", text="hello\x1b[31m")
        client.ask(type="action", text="waves")
        client.find("message", kind="action")
        assert lines[4:] == [
            f"Received from {client.address}: hello\\x1b[31m",
            f"Received from {client.address}: /me waves",
        ]
