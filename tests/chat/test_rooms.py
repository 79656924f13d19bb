"""Rooms: going from one to another, and how many there may be."""

from __future__ import annotations

import time

import pytest

from syncchat import ChatServer, Retention, RoomsFull
from syncchat.chat.room_names import MAX_ROOM
from tests.peer import PATIENCE
from tests.people import Json, Plain, settled, url_of

# Rooms.


def test_join_changes_the_room_and_keeps_the_nick() -> None:
    with (
        ChatServer(port=0, greeting="Hello", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/ops?nick=bob")) as bob,
    ):
        assert ann.hear() == "Hello"
        epoch = bob.event("welcome")["epoch"]
        bob.ask(type="say", text="you missed this")
        bob.event("message")
        ann.send("in the lobby", "/join ops", "in ops")
        assert ann.hear() == "ann: in the lobby"
        assert ann.hear() == "-> You are now in ops."
        assert ann.hear() == "ann: in ops"
        assert bob.event("message")["text"] == "in ops"
        bob.ask(type="join", room="lobby")
        welcome = bob.event("welcome")
        assert (welcome["room"], welcome["nick"], welcome["offset"]) == ("lobby", "bob", 1)
        bob.ask(type="join", room="ops", after=f"{epoch}:1")
        assert bob.event("welcome")["offset"] == 2
        history = bob.event("history")
        assert [m["text"] for m in history["messages"]] == ["in ops"]
        assert history["complete"]
        bob.ask(type="join", room="ops")
        assert bob.event("error").items() >= {"code": "room", "command": "join"}.items()
        ann.send("/join " + "x" * (MAX_ROOM + 1), "/join \x1b", "/join", "/rooms")
        assert ann.hear() == f"-> A room's name must have at most {MAX_ROOM} characters."
        # A command without its argument is answered by its usage.
        assert ann.hear() == ann.hear() == "-> Usage: /join ROOM"
        assert ann.hear() == "-> 2 rooms: lobby (0), ops (2)"


def test_a_plain_join_shows_as_much_history_as_the_url_asked_for() -> None:
    """Issue 13, item 11: after the line that names the room, and before live messages."""
    with ChatServer(port=0, greeting="", notices=False) as chat:
        for number in range(9):
            chat.say(str(number), room="ops")
        with Plain(url_of(chat, "/?history=2")) as ann, Plain(url_of(chat, "/ops")) as other:
            ann.send("/join ops")
            assert ann.hear() == "-> You are now in ops."
            assert [ann.hear(), ann.hear()] == ["server: 7", "server: 8"]
            other.send("live")
            assert ann.hear() == f"{other.address}: live"
        with Plain(url_of(chat)) as bob:
            bob.send("/join ops", "hi")
            assert bob.hear() == "-> You are now in ops."
            assert bob.hear() == f"{bob.address}: hi"


def test_a_join_event_can_request_recent_messages() -> None:
    """Issue 13, item 11: ``after`` takes precedence over ``history``, as in the URL."""
    with ChatServer(port=0, greeting="", notices=False) as chat:
        for number in range(9):
            chat.say(str(number), room="ops")
        with Json(url_of(chat, "/?history=1")) as ann:
            ann.event("welcome")
            ann.event("history")
            ann.ask(type="join", room="ops", history=2)
            welcome = ann.event("welcome")
            history = ann.event("history")
            assert [each["offset"] for each in history["messages"]] == [8, 9]
            assert history["complete"]
            ann.ask(type="join", room="lobby", history=0)
            ann.event("welcome")
            ann.ask(type="join", room="ops", history=2, after=f"{welcome['epoch']}:5")
            ann.event("welcome")
            history = ann.event("history")
            assert [each["offset"] for each in history["messages"]] == [6, 7, 8, 9]
            # Without the member there is no history, whatever the URL has.
            ann.ask(type="join", room="lobby")
            ann.event("welcome")
            for wrong in (1001, -1, "x"):
                ann.ask(type="join", room="ops", history=wrong)
                assert ann.event("error")["code"] == "malformed"


def test_a_nick_that_is_taken_in_the_next_room_is_reported() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/ops?nick=ann")) as other,
    ):
        other.send("first")
        assert other.hear() == "ann: first"
        ann.send("/join ops")
        assert ann.hear() == "-> You are now in ops."
        assert ann.hear() == f"-> The nick ann is taken here; you are {ann.address}."
        ann.send("hi")
        assert other.hear() == f"{ann.address}: hi"


def test_the_number_of_rooms_is_limited() -> None:
    with (
        ChatServer(port=0, greeting="", notices=False, max_rooms=2) as chat,
        Plain(url_of(chat)) as one,
        Plain(url_of(chat, "/ops")) as two,
    ):
        with Plain(url_of(chat, "/third")) as plain:
            assert plain.hear() == "-> The server has reached its limit of 2 rooms."
            assert plain.hear_end() == 1013
        with Json(url_of(chat, "/third")) as client:
            assert client.event("error")["code"] == "room"
            assert client.hear_end() == 1013
        one.send("/join third", "still in the lobby")
        assert one.hear() == "-> The server has reached its limit of 2 rooms."
        assert one.hear() == f"{one.address}: still in the lobby"
        with pytest.raises(RoomsFull):
            chat.say("x", room="third")
        # A room without members and messages is removed.
        two.send("/quit")
        two.hear_end()
        settled(chat, 1)
        with Plain(url_of(chat, "/third")) as plain:
            plain.send("kept")
            plain.hear()
        settled(chat, 1)
        # A room with messages stays.
        with Plain(url_of(chat, "/fourth")) as plain:
            assert plain.hear_end() == 1013
        one.send("/rooms")
        assert one.hear() == "-> 2 rooms: lobby (1), third (0)"


def test_the_lobby_is_not_subject_to_the_limit_of_rooms() -> None:
    with ChatServer(port=0, greeting="", max_rooms=1) as chat, Plain(url_of(chat, "/ops")) as ops:
        ops.send("kept")
        ops.hear()
        with Plain(url_of(chat)) as lobby:
            lobby.send("let in")
            assert lobby.hear().endswith(": let in")


def test_rooms_without_stored_messages_are_removed() -> None:
    with ChatServer(port=0, greeting="", max_rooms=3, keep=Retention(seconds=0.3), rate=0) as chat:
        for name in ("a", "b", "c"):
            with Plain(url_of(chat, f"/{name}")) as plain:
                plain.send("x")
                plain.hear()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                chat.say("let in", room="d")
                break
            except RoomsFull:
                assert time.monotonic() < deadline
