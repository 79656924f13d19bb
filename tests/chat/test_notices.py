"""Notices of joins, leaves and renames, single or combined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from wsproto.events import TextMessage

from syncchat import ChatServer
from syncchat.engine import Appended, Draft
from syncchat.engine.memory import MemoryEngine
from syncchat.net import Deadline
from tests.peer import PATIENCE, Peer, wait_for
from tests.people import Json, Plain, settled, url_of


def test_a_room_is_told_who_joins_leaves_and_changes_the_nick() -> None:
    with (
        ChatServer(port=0, greeting="") as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/elsewhere")) as elsewhere,
    ):
        elsewhere.event("welcome")
        with Json(url_of(chat, "/?nick=bob")) as bob:
            assert ann.hear() == " * bob joined. (Connected: 2)"
            assert bob.event("welcome")["members"] == ["ann", "bob"]
            with Plain(url_of(chat)) as carl:
                assert ann.hear() == f" * {carl.address} joined. (Connected: 3)"
                assert bob.event() == {"type": "joined", "nick": carl.address, "connected": 3}
                carl.send("/nick carl")
                assert ann.hear() == carl.hear() == f" * {carl.address} is now known as carl."
                assert bob.event("renamed")["nick"] == "carl"
                carl.websocket.socket.shutdown(2)
                assert ann.hear() == " * carl left: connection lost. (Connected: 2)"
                assert bob.event() == {
                    "type": "left", "nick": "carl", "connected": 2, "reason": "connection lost",
                }  # fmt: skip
            ann.send("/join elsewhere")
            assert bob.event() == {"type": "left", "nick": "ann", "connected": 1}
            assert elsewhere.event() == {"type": "joined", "nick": "ann", "connected": 2}
        assert ann.hear() == "-> You are now in elsewhere."


def test_without_notices_nothing_is_announced() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Json(url_of(chat)) as one,
        Json(url_of(chat)) as two,
    ):
        one.event("welcome")
        two.event("welcome")
        two.ask(type="nick", nick="bob")
        assert two.event("renamed")["nick"] == "bob"
        with Json(url_of(chat)) as third:
            third.event("welcome")
        settled(chat, 2)
        two.ask(type="say", text="x")
        assert one.event("message")["nick"] == "bob"


def test_a_joining_crowd_is_announced_in_a_few_notices() -> None:
    members, joins = 1000, 100
    with ChatServer(port=0, greeting="", rate=0) as chat, ExitStack() as stack:
        first = stack.enter_context(Json(url_of(chat, "/?nick=first")))
        first.event("welcome")
        for _ in range(members - 1):
            stack.enter_context(Peer.client(chat.port))
        settled(chat, members)
        # All notices about them.
        first.find("joined", connected=members)
        before = chat.stats().messages_out
        begin = time.monotonic()
        for number in range(joins):
            at = begin + number / joins
            while time.monotonic() < at:
                time.sleep(0.001)
            stack.enter_context(Peer.client(chat.port, path=f"/?nick=late{number}"))
        told: list[str] = []
        notices = 0
        while len(told) < joins:
            event = first.event("joined")
            notices += 1
            told += [event["nick"], *event.get("others", [])]
        took = time.monotonic() - begin
        # Each exactly once; the order depends on the threads.
        assert sorted(told) == sorted(f"late{number}" for number in range(joins))
        assert event["connected"] == members + joins
        assert notices <= 11 + 5 * took
        assert chat.stats().messages_out - before <= (notices + 1) * (members + joins)


def test_notices_catch_up_after_early_introductions() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        for number in range(100):
            guest = stack.enter_context(Peer.client(chat.port, path=f"/?nick=guest{number}"))
            guest.send(TextMessage(data="hello"))
            ann.find("message", nick=f"guest{number}")
        begin = time.monotonic()
        stack.enter_context(Peer.client(chat.port, path="/?nick=silent"))
        ann.find("joined", nick="silent")
        # Single notices every 0.2 seconds would take twenty seconds.
        assert time.monotonic() - begin < 10


def test_a_new_room_gets_no_notices_of_a_removed_one(*, full: bool) -> None:
    with ChatServer(port=0, greeting="", rate=0) as chat:
        for _ in range(10 if full else 3):
            with ExitStack() as stack:
                for _ in range(14):
                    stack.enter_context(Peer.client(chat.port, path="/ops"))
                settled(chat, 14)
            settled(chat, 0)
            with Json(url_of(chat, "/ops?nick=new")) as client:
                assert client.event("welcome")["members"] == ["new"]
                client.ask(type="say", text="alone")
                time.sleep(0.3)
                client.ask(type="names")
                assert client.event("message")["text"] == "alone"
                client.event("names")


def test_an_exception_in_an_engine_is_logged_and_the_room_continues(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = MemoryEngine.append

    def fail_once(engine: MemoryEngine, room: str, drafts: Sequence[Draft]) -> list[Appended]:
        if any(draft.text == "fail" for draft in drafts):
            raise ZeroDivisionError
        return append(engine, room, drafts)

    monkeypatch.setattr(MemoryEngine, "append", fail_once)
    with ChatServer(port=0, greeting="") as chat, Plain(url_of(chat, "/?nick=ann")) as ann:
        ann.send("here")
        assert ann.hear() == "ann: here"
        ann.send("fail")
        wait_for(lambda: "messages could not be appended" in caplog.text)
        ann.send("still here")
        assert ann.hear() == "ann: still here"


def test_a_nick_in_other_case_is_another_nick_in_the_notices() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        ExitStack() as stack,
    ):
        there = set(ann.event("welcome")["members"])
        for _ in range(12):
            # So many that they are combined.
            stack.enter_context(Peer.client(chat.port))
        for nick in ("Bob", "bob", "BOB"):
            with Json(url_of(chat, f"/?nick={nick}")) as bob:
                bob.event("welcome")
        settled(chat, 13)
        there.discard("nobody")
        names: set[str] = set()
        deadline = Deadline.after(PATIENCE)
        while there != names:
            assert not deadline.expired, (there, names)
            # The notices follow the joins after a moment.
            ann.ask(type="names")
            while (event := ann.event("joined", "left", "names"))["type"] != "names":
                changed = {event["nick"], *event.get("others", [])}
                there = there | changed if event["type"] == "joined" else there - changed
            names = set(event["names"])


def test_a_member_is_announced_before_its_first_message() -> None:
    with (
        ChatServer(port=0, greeting="", rate=0) as chat,
        # Lines have the first names only; events have all of them.
        Json(url_of(chat, "/?nick=ann")) as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        for number in range(40):
            guest = stack.enter_context(Peer.client(chat.port, path=f"/?nick=guest{number}"))
            guest.send(TextMessage(data="hello"))
        introduced: set[str] = set()
        for _ in range(40):
            while (heard := ann.event("joined", "message"))["type"] == "joined":
                introduced |= {heard["nick"], *heard.get("others", [])}
            assert heard["nick"] in introduced
