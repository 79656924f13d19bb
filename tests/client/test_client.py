"""The client with a real server: its events, also across reconnects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from syncchat import (
    ChatServer,
    Client,
    ConnectionClosed,
    Disconnected,
    Gap,
    Line,
    NotConnected,
    Retention,
)
from syncchat.chat.events import (
    Error,
    History,
    HistoryRequest,
    Message,
    Names,
    NamesRequest,
    Nick,
    Private,
    PrivateMessage,
    Renamed,
    Say,
    Welcome,
    decode_from_client,
    encode,
)
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, Peer, free_port, wait_for
from tests.people import Json, cut, line, messages, until, url_of
from tests.proxy import Proxy
from tests.stage import closing_with, welcome


def tcp_connections() -> list[Any]:
    return list(psutil.Process().net_connections("tcp"))


# With a real server.


@pytest.mark.parametrize("echo", [True, False])
def test_a_client_reconnects_and_misses_nothing(tmp_path: Path, *, echo: bool) -> None:
    port = free_port()
    database = f"sqlite:{tmp_path / 'chat.db'}"

    def server() -> ChatServer:
        return ChatServer(port=port, engine=database, echo=echo, notices=False, rate=0)

    with ExitStack() as stack:
        with server() as chat:
            ann = stack.enter_context(Client(url_of(chat), nick="ann"))
            bob = stack.enter_context(Client(url_of(chat), nick="bob"))
            ann.say("one")
            ann.flush(PATIENCE)
            bob.say("two")
            bob.flush(PATIENCE)
        until(ann, Disconnected)
        heard = until(bob, Disconnected)
        assert not ann.connected
        # Sent while no client is connected.
        ann.say("three")
        ann.act("four")
        with pytest.raises(TimeoutError):
            ann.flush(0.05)
        assert ann.unacknowledged == 2
        with server() as chat:
            ann.flush(PATIENCE)
            assert ann.nick == "ann"
            with Json(url_of(chat, "/?history=9")) as judge:
                judge.event("welcome")
                history = judge.event("history")["messages"]
                assert [m["text"] for m in history] == ["one", "two", "three", "four"]
                assert [m["nick"] for m in history] == ["ann", "bob", "ann", "ann"]
            rest = [*heard, *until(bob, Welcome)]
            while "four" not in messages(rest):
                rest.append(bob.receive(PATIENCE))
            assert not any(isinstance(event, Gap) for event in rest)
            # Without echo, it gets the messages that it missed, not its own.
            wanted = ["one", "two", "three", "four"] if echo else ["one", "three", "four"]
            assert messages(rest) == wanted


def test_a_gap_is_reported_if_the_server_no_longer_has_the_messages() -> None:
    port = free_port()
    with ExitStack() as stack:
        with ChatServer(port=port, notices=False) as chat:
            client = stack.enter_context(Client(url_of(chat)))
            client.say("before")
            until(client, Message)
        until(client, Disconnected)
        with ChatServer(port=port, notices=False) as chat:
            chat.say("first of a new life")
            events = until(client, Message)
            assert [type(event) for event in events[-2:]] == [Gap, Message]
            gap = events[-2]
            assert isinstance(gap, Gap)
            assert gap.after == 1
            client.say("and on")
            assert messages(until(client, Message)) == ["and on"]


def test_a_restarted_memory_server_without_messages_is_no_gap() -> None:
    """Issue 13, item 20: a client that has seen no message cannot miss any of the old log."""
    port = free_port()

    def server() -> ChatServer:
        return ChatServer(port=port, notices=False)

    with ExitStack() as stack:
        with server() as chat:
            client = stack.enter_context(Client(url_of(chat)))
            until(client, Welcome)
        until(client, Disconnected)
        with server() as chat:
            events = until(client, Welcome)
            # The new log is empty, too.
            client.say("first")
            events += until(client, Message)
            cut(client)
            until(client, Disconnected)
            # Reconnecting within the new log is exact.
            chat.say("second")
            events += until(client, Message)
            assert messages(events) == ["first", "second"]
            assert not any(isinstance(event, Gap) for event in events)


def test_a_client_that_has_seen_nothing_gets_the_new_log_from_its_start() -> None:
    """Issue 13, item 20: only messages that are no longer stored are a gap."""
    port = free_port()
    with ExitStack() as stack:
        with ChatServer(port=port, notices=False) as chat:
            client = stack.enter_context(Client(url_of(chat)))
            until(client, Welcome)
        until(client, Disconnected)
        with ChatServer(port=port, notices=False, keep=Retention(messages=2)) as chat:
            # Before the client returns, which takes half a second at least.
            chat.say("one")
            chat.say("two")
            events = until(client, Message)
            assert messages(events) == ["one"]
            assert not any(isinstance(event, Gap) for event in events)
        until(client, Disconnected)
    with ChatServer(port=0, notices=False, keep=Retention(messages=2)) as chat:
        for number in range(3):
            chat.say(str(number))
        with Json(url_of(chat, "/?after=another:0")) as late:
            late.event("welcome")
            history = late.event("history")
            assert [m["text"] for m in history["messages"]] == ["1", "2"]
            assert history["complete"] is False


def test_an_unacknowledged_message_is_stored_once() -> None:
    with ChatServer(port=0, notices=False, rate=0) as chat, Client(url_of(chat)) as client:
        for number in range(300):
            client.say(str(number))
            if number % 30 == 0:
                cut(client)
        client.flush(PATIENCE)
        heard: list[str] = []
        while len(heard) < 300:
            heard += messages(until(client, Message))
        assert heard == [str(number) for number in range(300)]


def test_a_client_reconnects_to_the_room_that_it_joined() -> None:
    with ChatServer(port=0, rate=0) as chat, Client(url_of(chat), nick="ann") as client:
        until(client, Welcome)
        client.say("in the lobby")
        client.join("café&co")
        client.say("in the other room")
        client.flush(PATIENCE)
        assert client.room == "café&co"
        cut(client)
        client.say("there again")
        events = until(client, Disconnected)
        assert messages(events) == ["in the lobby", "in the other room"]
        events = until(client, Message)
        assert messages(events) == ["there again"]
        assert not any(isinstance(event, Gap) for event in events)
        # It is refused: the client is already in that room.
        client.join("#CAFÉ&CO")
        client.say("still there")
        events = until(client, Message)
        assert any(isinstance(event, Error) and event.code == "room" for event in events)
        assert client.room == "café&co"


def test_a_client_gets_its_nick_back_when_its_old_connection_has_ended() -> None:
    with ChatServer(port=0, ping_interval=0) as chat:
        with Json(url_of(chat, "/?nick=other")) as other:
            other.event("welcome")
            with (
                Proxy(chat.port) as proxy,
                Client(f"ws://127.0.0.1:{proxy.port}/", nick="ann") as client,
            ):
                until(client, Welcome)
                other.find("joined", nick="ann")
                cut(client)
                other.find("left", nick="ann")
                # Another client takes the nick first.
                other.ask(type="nick", nick="ann")
                other.find("renamed", nick="ann")
                until(client, Disconnected)
                until(client, Welcome)
                assert client.nick != "ann"
                other.ask(type="nick", nick="other")
                events = until(client, Renamed)
                events += until(client, Renamed) if client.nick != "ann" else []
                assert client.nick == "ann"
                # The failed request is not reported.
                told = [event for event in events if isinstance(event, Error)]
                assert len(told) <= 1


def test_requests_are_answered_by_events() -> None:
    with ChatServer(port=0, notices=False) as chat, Client(url_of(chat), nick="ann") as client:
        until(client, Welcome)
        client.say("about breakfast")
        client.send_line("/me eats")
        client.ask(NamesRequest())
        answer = until(client, Names)[-1]
        assert isinstance(answer, Names)
        assert answer.names == ["ann"]
        client.ask(HistoryRequest(limit=5))
        answer = until(client, History)[-1]
        assert isinstance(answer, History)
        assert [message.text for message in answer.messages] == ["about breakfast", "eats"]
        client.send_line("/msg ann to myself")
        private = until(client, PrivateMessage)[-1]
        assert isinstance(private, PrivateMessage)
        client.send_line("/search break")
        answer = until(client, History)[-1]
        assert client.lines(answer)[0].endswith("] ann: about breakfast")
        client.send_line("/help")
        assert isinstance(until(client, Line)[-1], Line)
        with pytest.raises(ValueError, match="Did you mean /nick"):
            client.send_line("/nik x")
        with pytest.raises(ValueError, match="No private message"):
            client.send_line("/reply x")
        client.ask(Nick("anna"))
        until(client, Renamed)
        assert client.nick == "anna"
        client.ask(Private("nobody-here", "x"))
        assert until(client, Error)[-1] == Error("absent", "nobody-here is not here.", "private")
        client.send_line("/quit")
        assert list(client) == []
        assert client.close_code == 1000


def test_history_and_live_messages_meet_exactly_for_a_client() -> None:
    with ChatServer(port=0, notices=False) as chat:
        for number in range(20):
            chat.say(str(number))
        with Client(url_of(chat), history=5) as client:
            chat.say("live")
            heard: list[str] = []
            while "live" not in heard:
                heard += messages([client.receive(PATIENCE)])
            # The message may have been sent just before the client joined.
            assert heard == ["15", "16", "17", "18", "19", "live"][-len(heard) :]
            assert len(heard) >= 5


def test_a_message_too_long_is_refused_even_if_the_limit_is_learned_later() -> None:
    release = threading.Event()

    def handler(websocket: WebSocket) -> None:
        release.wait(PATIENCE)
        websocket.send(encode(welcome()))
        heard.extend(decode_from_client(str(text)) for text in websocket)

    heard: list[object] = []
    with (
        serve(handler, subprotocols=["syncchat.v1"]) as server,
        Client(f"ws://127.0.0.1:{server.port}/", reconnect=False) as client,
    ):
        client.say("one")
        nonce = client.say("x" * 70_000)
        client.say("two")
        release.set()
        error = until(client, Error)[-1]
        assert isinstance(error, Error)
        assert (error.code, error.nonce) == ("too_big", nonce)
        wait_for(lambda: client.unacknowledged == 2)
        client.close()
    assert [event.text for event in heard if isinstance(event, Say)] == ["one", "two"]


def test_a_refused_message_is_reported_and_not_sent_again(
    tmp_path: Path, pragma: Callable[[str], None]
) -> None:
    with (
        ChatServer(port=0, engine=f"sqlite:{tmp_path / 'chat.db'}", notices=False) as chat,
        Client(url_of(chat)) as client,
    ):
        until(client, Welcome)
        pragma("max_page_count = 1")
        client.say("x" * 60_000)
        error = until(client, Error)[-1]
        assert isinstance(error, Error)
        assert error.code == "unavailable"
        assert "full" in error.text
        assert str(tmp_path) not in error.text
        client.flush(PATIENCE)
        pragma("max_page_count = 1000000")
        client.say("fits again")
        assert messages(until(client, Message)) == ["fits again"]


def test_a_burst_is_throttled_and_arrives_in_order() -> None:
    with (
        ChatServer(port=0, rate=2000, burst=50, notices=False) as chat,
        Client(url_of(chat)) as client,
    ):
        for number in range(3000):
            client.say(f"{number} {'x' * 100}")
        client.flush(PATIENCE)
        with Json(url_of(chat, "/?history=1000")) as judge:
            judge.event("welcome")
            history = judge.event("history")["messages"]
            assert [int(m["text"].split()[0]) for m in history] == list(range(2000, 3000))


def test_too_many_unacknowledged_messages_raise_after_the_timeout() -> None:
    port = free_port()
    with ChatServer(port=port) as chat:
        client = Client(url_of(chat)).connect()
        until(client, Welcome)
    try:
        until(client, Disconnected)
        with pytest.raises(NotConnected):
            client.ask(NamesRequest())
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                client.say("x", timeout=0)
        assert client.unacknowledged == 1000
    finally:
        client.close()
    with pytest.raises(ConnectionClosed):
        client.say("x")


def test_a_client_that_never_receives_blocks_nobody_and_is_acknowledged() -> None:
    with (
        ChatServer(port=0, notices=False, rate=0) as chat,
        Client(url_of(chat)) as deaf,
        Json(url_of(chat)) as loud,
    ):
        loud.event("welcome")
        for number in range(12_000):
            loud.ask(type="say", text=f"{number}")
        for _ in range(12_000):
            loud.event("message")
        deaf.say("I am here")
        deaf.flush(PATIENCE)
        assert loud.event("message")["text"] == "I am here"
        # The last events are kept until the first receive().
        first = until(deaf, Message)[-1]
        assert isinstance(first, Message)
        # The last of all may not be in the queue yet when it is acknowledged.
        assert 12_001 - first.offset in (9_999, 10_000)
        assert chat.stats().slow_consumers == 0


def test_a_second_connect_continues_from_the_first() -> None:
    with ChatServer(port=0, notices=False) as chat:
        client = Client(url_of(chat))
        with client:
            client.say("one")
            client.flush(PATIENCE)
            with pytest.raises(RuntimeError):
                client.connect()
        chat.say("missed")
        with client:
            client.say("two")
            client.flush(PATIENCE)
        heard = messages(list(client))
        assert heard == ["one", "missed", "two"]


def test_close_during_connect_ends_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = Client(f"ws://127.0.0.1:{mute.getsockname()[1]}/")
        failed: list[Exception] = []

        def connect() -> None:
            try:
                client.connect()
            except Exception as exc:
                failed.append(exc)

        thread = threading.Thread(target=connect)
        thread.start()
        sock, _ = mute.accept()
        client.close()
        with Peer.server(sock):
            thread.join(PATIENCE)
        assert [type(exc) for exc in failed] == [NotConnected]
        assert not client.connected


def test_a_line_for_a_disconnected_plain_server_is_refused() -> None:
    with closing_with(1001) as (url, _), Client(url) as client:
        until(client, Disconnected)
        with pytest.raises(NotConnected):
            while True:
                client.say("x")


@pytest.mark.parametrize("form", ["{text:999999999999}", "{text}" * 2000, "{", "no text"])
def test_a_servers_format_cannot_harm_a_client(form: str) -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send(encode(msgspec.structs.replace(welcome(), format=form)))
        websocket.send(encode(Message(1, 0.0, "bob", "1", "message")))
        websocket.recv()

    with serve(handler, subprotocols=["syncchat.v1"]) as server:
        with Client(f"ws://127.0.0.1:{server.port}/", reconnect=False) as client:
            assert line(client) == "bob: 1"
