"""The server's log, as lines and as JSON."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path

from syncchat import ChatServer
from syncchat.eventlog import masked
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


def test_a_level_leaves_out_what_is_below_it_and_addresses_can_be_masked() -> None:
    lines: list[str] = []
    with ChatServer(
        "0.0.0.0", 0, log=lines.append, log_level=logging.WARNING, log_mask=True, notices=False
    ) as chat:
        with Plain(url_of(chat)) as ann:
            ann.hear()
        settled(chat, 0)
        (warning,) = lines
        assert warning.startswith("Warning: ")
        lines.clear()
        chat.reconfigure(log_level=logging.INFO, log_messages=False)
        with Plain(url_of(chat)) as ann:
            ann.hear()
            ann.send("secret")
            ann.hear()
        settled(chat, 0)
        assert [re.sub(r":\d+", "", line) for line in lines] == [
            "New connection from 127.0.0.0",
            "Received a message from 127.0.0.0",
            "Client 127.0.0.0 disconnected",
        ]
    assert masked("ban 2001:db8:1:2::3 at 12:30:45 or std::cout: x") == (
        "ban 2001:db8:1:: at 12:30:45 or std::cout: x"
    )
    assert masked("[2001:db8:1:2::3]:5 or 192.0.2.77:80, 999.1.1.1 and 1.2.3.4.5") == (
        "[2001:db8:1::]:5 or 192.0.2.0:80, 999.1.1.1 and 1.2.3.4.5"
    )
