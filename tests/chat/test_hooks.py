"""A program around the chat: what it says and asks, and the callbacks that see its clients."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from syncchat import (
    BadNick,
    BadRoom,
    ChatServer,
    Client,
    ConnectionClosed,
    Disconnected,
    Heard,
    Reconnected,
    Rejected,
    Visitor,
)
from syncchat.chat.events import Error, Left, Message, RoomCount, Welcome
from syncchat.errors import NickTaken
from tests.peer import PATIENCE, wait_for
from tests.people import Json, Plain, messages, until, url_of
from tests.redis_server import RedisProcess


def server(**settings: Any) -> ChatServer:
    return ChatServer(port=0, greeting="", rate=0, **settings)


# What the program says and asks.


def test_the_program_says_something_as_a_name() -> None:
    with server() as chat, Client(url_of(chat, "/ops"), nick="ann") as ann:
        until(ann, Welcome)
        chat.say("the disk is full", room="ops", nick="monitor")
        (*_, event) = until(ann, Message)
        assert isinstance(event, Message)
        assert (event.nick, event.text) == ("monitor", "the disk is full")
        with pytest.raises(BadNick, match="taken"):
            chat.say("I am not ann", room="ops", nick="Ann")
        chat.say("nobody here has that nick", room="dev", nick="ann")
        for nick in ("system", "a b", ""):
            with pytest.raises(BadNick):
                chat.say("x", nick=nick)


def test_the_program_asks_for_rooms_members_and_history() -> None:
    with server() as chat, Client(url_of(chat, "/ops"), nick="bob") as bob:
        until(bob, Welcome)
        with Client(url_of(chat, "/ops"), nick="Ann") as ann:
            until(ann, Welcome)
            assert chat.members("ops") == ["Ann", "bob"]
            assert chat.members() == []
        for number in range(3):
            chat.say(str(number), room="dev")
        assert [each.text for each in chat.history("dev")] == ["0", "1", "2"]
        assert [each.text for each in chat.history("dev", 2)] == ["1", "2"]
        assert chat.history("dev", 0) == []
        assert chat.history("nothing") == []
        wait_for(lambda: chat.members("ops") == ["bob"])
        assert chat.rooms() == [RoomCount("dev", 0), RoomCount("ops", 1)]
        for call in (chat.members, chat.history):
            with pytest.raises(BadRoom):
                call("a b")
    with pytest.raises(RuntimeError, match="not running"):
        chat.members()


def test_members_are_those_of_all_servers_on_one_redis() -> None:
    with RedisProcess() as storage:
        with server(engine=storage.url) as one, server(engine=storage.url) as two:
            with Client(url_of(one), nick="ann") as ann, Client(url_of(two), nick="bob") as bob:
                until(ann, Welcome)
                until(bob, Welcome)
                wait_for(lambda: one.members() == two.members() == ["ann", "bob"])
                with pytest.raises(NickTaken):
                    one.say("I am not bob", nick="bob")
                assert not one.kick("eve")
                assert one.kick("BOB", reason="flooding")
                with pytest.raises(ConnectionClosed, match="removed from lobby: flooding"):
                    until(bob, Message)
                wait_for(lambda: one.members() == ["ann"])
                one.say("hello", nick="bob")
                wait_for(lambda: [each.text for each in two.history()] == ["hello"])


def test_a_long_history_is_read_in_pages() -> None:
    with server() as chat:
        for number in range(1000):
            chat.say(f"{number} {'x' * 1000}")
        found = chat.history(n=2000)
        assert [each.offset for each in found] == list(range(1, 1001))


def test_a_member_is_kicked_and_told_why() -> None:
    with server() as chat, Client(url_of(chat), nick="bob") as bob:
        until(bob, Welcome)
        with Client(url_of(chat), nick="ann") as ann:
            until(ann, Welcome)
            assert chat.kick("ANN", reason="flooding")
            *_, error = until(ann, Error)
            assert isinstance(error, Error)
            assert (error.code, error.text) == (
                "kicked",
                "You were removed from this room: flooding.",
            )
            with pytest.raises(ConnectionClosed, match="removed from lobby: flooding") as caught:
                until(ann, Message)
            assert caught.value.code == 1008
        *_, left = until(bob, Left)
        assert isinstance(left, Left)
        assert left.nick == "ann"
        assert not chat.kick("ann")
        assert chat.kick("bob", reason="é" * 200)
        with pytest.raises(ConnectionClosed):
            until(bob, Message)


# Messages.


@pytest.mark.parametrize("connect", [Json, Plain])
def test_on_message_sees_changes_and_refuses(connect: Callable[[str], Json | Plain]) -> None:
    seen: list[Heard] = []

    def on_message(heard: Heard) -> str | None:
        seen.append(heard)
        if heard.text == "no":
            raise Rejected("Be polite.")
        return heard.text.upper() if heard.kind == "message" else None

    with server(on_message=on_message) as chat, Client(url_of(chat), nick="bob") as bob:
        until(bob, Welcome)
        with Client(url_of(chat), nick="ann") as ann:
            ann.say("hello")
            nonce = ann.say("no")
            ann.act("waves")
            ann.flush(PATIENCE)
            *_, error = until(ann, Error)
            assert error == Error("refused", "Be polite.", "say", nonce)
        heard = until(bob, Message) + until(bob, Message)
        assert messages(heard) == ["HELLO", "waves"]
        assert [(each.room, each.nick, each.text, each.kind) for each in seen] == [
            ("lobby", "ann", "hello", "message"),
            ("lobby", "ann", "no", "message"),
            ("lobby", "ann", "waves", "action"),
        ]
        assert seen[0].address.startswith("127.0.0.1:")
        with connect(url_of(chat, "/dev")):
            # The program's own messages are not shown to it.
            chat.say("own")
            assert len(seen) == 3


def test_an_exception_of_on_message_refuses_the_message_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def on_message(heard: Heard) -> Any:
        return 1 / 0 if heard.text == "bad" else 7 if heard.text == "odd" else None

    with server(on_message=on_message) as chat, Client(url_of(chat), nick="ann") as ann:
        for text in ("bad", "odd", "good"):
            ann.say(text)
        ann.flush(PATIENCE)
        heard = until(ann, Message)
        errors = [event for event in heard if isinstance(event, Error)]
        assert [each.text for each in errors] == ["The message was not accepted."] * 2
        assert messages(heard) == ["good"]
        assert [each.text for each in chat.history()] == ["good"]
    assert "ZeroDivisionError" in caplog.text
    assert "on_message must return a str or None, not int" in caplog.text


def test_a_changed_text_is_sanitized() -> None:
    with server(on_message=lambda _: "a\x1b[31mb") as chat:
        with Client(url_of(chat), nick="ann") as ann:
            ann.say("x")
            assert messages(until(ann, Message)) == ["a[31mb"]


def test_a_slow_on_message_delays_its_sender_only() -> None:
    go_on = threading.Event()

    def on_message(heard: Heard) -> None:
        if heard.text == "slow":
            assert go_on.wait(PATIENCE)

    with server(on_message=on_message) as chat:
        with Client(url_of(chat), nick="ann") as ann, Client(url_of(chat), nick="bob") as bob:
            until(ann, Welcome)
            until(bob, Welcome)
            ann.say("slow")
            for number in range(20):
                bob.say(str(number))
            bob.flush(PATIENCE)
            assert ann.unacknowledged == 1
            go_on.set()
            ann.flush(PATIENCE)


def test_a_rename_is_known_before_the_next_message() -> None:
    seen: list[str] = []
    with server(on_message=lambda heard: seen.append(heard.nick)) as chat:
        with Client(url_of(chat), nick="ann") as ann:
            until(ann, Welcome)
            for number in range(10):
                ann.send_line(f"/nick ann{number}")
                ann.say("x")
            ann.flush(PATIENCE)
    assert seen == [f"ann{number}" for number in range(10)]


# Joins and leaves.


def test_on_join_and_on_leave_get_the_same_visitor() -> None:
    came: list[Visitor] = []
    left: list[tuple[Visitor, str]] = []
    with server(
        on_join=came.append, on_leave=lambda visitor: left.append((visitor, visitor.nick))
    ) as chat:
        with Client(url_of(chat, "/ops?x=1"), nick="ann") as ann:
            until(ann, Welcome)
            (visitor,) = came
            assert (visitor.room, visitor.nick) == ("ops", "ann")
            assert "x=1" in visitor.request.query
            assert visitor.address.startswith("127.0.0.1:")
            ann.send_line("/nick eve")
            ann.join("dev")
            until(ann, Welcome)
            wait_for(lambda: len(came) == 2)
            assert (came[1].room, came[1].nick) == ("dev", "eve")
            assert left == [(visitor, "eve")]
        wait_for(lambda: len(left) == 2)
        assert left[1][0] is came[1]


def test_a_newcomer_gets_what_is_said_in_on_join() -> None:
    def on_join(visitor: Visitor) -> None:
        chat.say(f"Welcome, {visitor.nick}", room=visitor.room)
        assert visitor.nick in chat.members(visitor.room)

    chat = server(on_join=on_join)
    with chat, Plain(url_of(chat, "/?nick=bob")) as plain:
        assert plain.hear() == "server: Welcome, bob"
        with Client(url_of(chat), nick="ann", history=5) as ann:
            heard = until(ann, Message)
            assert messages(heard) == ["Welcome, bob"]
            assert messages(until(ann, Message)) == ["Welcome, ann"]
        assert plain.hear() == "server: Welcome, ann"


def test_a_log_that_begins_anew_while_a_client_enters_is_no_log_that_it_knows() -> None:
    came: list[str | None] = []

    def on_join(visitor: Visitor) -> None:
        came.append(visitor.nick)
        if came == ["ann", "late"]:
            redis.ask("FLUSHALL")
            chat.say("anew")
            # The members are told of it.
            until(ann, Disconnected)

    with (
        RedisProcess() as redis,
        server(engine=redis.url, on_join=on_join) as chat,
        Client(url_of(chat), nick="ann") as ann,
    ):
        until(ann, Welcome)
        for text in ("one", "two", "three"):
            chat.say(text)
        with Client(url_of(chat), nick="late") as late:
            until(late, Reconnected)
            chat.say("more")
            assert messages(until(late, Message)) == ["anew"]
            assert messages(until(late, Message)) == ["more"]


def test_on_join_turns_a_client_away_before_it_sees_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left: list[str] = []

    def on_join(visitor: Visitor) -> None:
        if visitor.nick == "eve":
            raise Rejected("Not you.")
        if visitor.nick == "bug":
            raise ZeroDivisionError

    with server(on_join=on_join, on_leave=lambda visitor: left.append(visitor.nick)) as chat:
        chat.say("secret")
        with Client(url_of(chat), nick="ann") as ann:
            until(ann, Welcome)
            for nick, text in (("eve", "Not you."), ("bug", "You cannot enter this room.")):
                with Json(url_of(chat, f"/?nick={nick}&history=5")) as turned_away:
                    error = turned_away.event()
                    assert (error["code"], error["text"]) == ("refused", text)
                    assert turned_away.hear_end() == 1008
            assert chat.members() == ["ann"]
            # Nobody is told of them.
            ann.say("x")
            heard = until(ann, Message)
            assert not any(isinstance(event, Left) for event in heard)
        wait_for(lambda: left == ["ann"])
    assert "ZeroDivisionError" in caplog.text
    assert "Not you." not in caplog.text


def test_a_client_that_is_refused_in_another_room_stays_where_it_is() -> None:
    def on_join(visitor: Visitor) -> None:
        if visitor.room == "secret":
            raise Rejected("Members only.")

    with server(on_join=on_join) as chat, Client(url_of(chat, "/ops"), nick="ann") as ann:
        until(ann, Welcome)
        ann.join("secret")
        heard = until(ann, Error)
        assert isinstance(heard[-1], Error)
        assert (heard[-1].code, heard[-1].text, heard[-1].command) == (
            "refused",
            "Members only.",
            "join",
        )
        chat.say("still here", room="ops")
        assert messages(until(ann, Message)) == ["still here"]
        assert ann.room == "ops"
        assert ann.nick == "ann"


def test_a_message_between_nick_and_membership_is_in_the_history(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inside = threading.Event()
    go_on = threading.Event()

    def on_join(_visitor: Visitor) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    caplog.set_level(logging.WARNING)
    with server(on_join=on_join) as chat:
        chat.say("before")
        with Json(url_of(chat, "/?nick=ann")) as ann:
            assert inside.wait(PATIENCE)
            chat.say("meanwhile")
            go_on.set()
            assert ann.event()["type"] == "welcome"
            history = ann.event("history")
            assert [each["text"] for each in history["messages"]] == ["meanwhile"]
            chat.say("after")
            ann.find("message", text="after")
    assert not caplog.records
