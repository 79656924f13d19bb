"""The client in a program: its server comes later, its outbox is full, it has several rooms."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from syncchat import (
    CannotConnect,
    ChatServer,
    Client,
    Clients,
    ConnectionClosed,
    Disconnected,
    HandshakeRefused,
    NotConnected,
    OutboxFull,
    events,
)
from tests.peer import PATIENCE, free_port, upgrade_answer, wait_for
from tests.people import messages, until, url_of
from tests.stage import Stage

#: Seconds by which a limit may be missed on a busy machine.
_SLACK = 1.0


def server(port: int = 0, **settings: object) -> ChatServer:
    return ChatServer(port=port, notices=False, greeting="", rate=0, **settings)  # type: ignore[arg-type]


# A server that comes later.


def test_a_client_waits_for_its_server_to_start() -> None:
    port = free_port()
    client = Client(f"ws://127.0.0.1:{port}/", nick="ann")
    thread = threading.Thread(target=lambda: client.connect(wait=True))
    thread.start()
    with server(port) as chat:
        thread.join(PATIENCE)
        client.say("here")
        client.flush(PATIENCE)
        assert client.close() == []
        assert [each.text for each in chat.history()] == ["here"]


def test_a_client_waits_for_a_limited_time() -> None:
    began = time.monotonic()
    with pytest.raises(CannotConnect):
        Client(f"ws://127.0.0.1:{free_port()}/").connect(wait=True, timeout=0.3)
    assert 0.2 < time.monotonic() - began < 0.3 + _SLACK


def test_a_client_does_not_wait_if_it_would_be_refused_again() -> None:
    with server(token="s3cret") as chat, pytest.raises(HandshakeRefused, match="401"):
        Client(url_of(chat), token="guess").connect(wait=True)


def test_close_ends_the_wait_for_a_server() -> None:
    client = Client(f"ws://127.0.0.1:{free_port()}/")
    ended: list[Exception] = []

    def connect() -> None:
        try:
            client.connect(wait=True)
        except NotConnected as exc:
            ended.append(exc)

    thread = threading.Thread(target=connect)
    thread.start()
    # close() has no effect before connect() has begun.
    wait_for(lambda: client.close() == [] and not thread.is_alive())
    assert len(ended) == 1


# A full outbox.


def test_a_full_outbox_refuses_a_message_at_once_and_keeps_the_others() -> None:
    with Stage() as stage, Client(f"ws://{stage.url}/") as client:
        until(client, events.Welcome)
        for number in range(1000):
            client.say(str(number), timeout=0)
        began = time.monotonic()
        with pytest.raises(OutboxFull):
            client.say("one too many", timeout=0)
        assert time.monotonic() - began < _SLACK
        with pytest.raises(TimeoutError):
            client.act("another", timeout=0.01)
        assert client.unacknowledged == 1000
        stage.acknowledge()
        wait_for(lambda: client.unacknowledged < 1000)
        client.say("now", timeout=0)


# Closing.


def test_close_returns_what_was_not_delivered() -> None:
    with Stage() as stage:
        client = Client(f"ws://{stage.url}/").connect()
        client.say("one")
        client.act("two")
        client.say("three")
        stage.wait_for_said(2)
        stage.acknowledge(1)
        wait_for(lambda: client.unacknowledged == 1)
        (left,) = client.close()
        assert isinstance(left, events.Action)
        assert left.text == "two"
        # Still known, for another connect().
        assert client.close() == [left]


def test_close_takes_no_longer_than_its_timeout_if_the_server_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        deaf = threading.Event()

        def accept() -> None:
            sock, _ = silent.accept()
            with sock:
                sock.sendall(upgrade_answer(sock.recv(65536)))
                deaf.wait(PATIENCE)

        thread = threading.Thread(target=accept)
        thread.start()
        client = Client(f"ws://127.0.0.1:{silent.getsockname()[1]}/").connect()
        client.say("x" * 1_000_000)
        for timeout in (0.5, 0.0):
            began = time.monotonic()
            client.close(timeout)
            assert time.monotonic() - began < timeout + _SLACK
        deaf.set()
        thread.join()


def test_close_ends_a_say_that_waits() -> None:
    with Stage() as stage:
        client = Client(f"ws://{stage.url}/").connect()
        until(client, events.Welcome)
        for number in range(1000):
            client.say(str(number))
        ended: list[Exception] = []

        def say() -> None:
            try:
                client.say("one too many")
            except ConnectionClosed as exc:
                ended.append(exc)

        thread = threading.Thread(target=say)
        thread.start()
        left = client.close(5)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(ended) == 1
        assert len(left) >= 999


def test_a_with_statement_logs_what_was_not_delivered(caplog: pytest.LogCaptureFixture) -> None:
    with Stage() as stage:
        with Client(f"ws://{stage.url}/?nick=ann") as client:
            client.say("lost")
            stage.wait_for_said()
        assert f"ws://{stage.url}/: 1 messages were not delivered" in caplog.text


def test_a_program_is_told_of_events() -> None:
    told = threading.Event()
    with server() as chat, Client(url_of(chat), on_event=told.set) as client:
        assert told.wait(PATIENCE)
        assert isinstance(client.receive(0), events.Welcome)
        told.clear()
        chat.say("hello")
        assert told.wait(PATIENCE)
        assert messages([client.receive(0)]) == ["hello"]


def test_close_may_be_called_in_on_event() -> None:
    closed: list[object] = []

    def on_event() -> None:
        if not closed:
            closed.append(client.close(timeout=1))

    with server() as chat:
        client = Client(url_of(chat), on_event=on_event)
        client.connect()
        with pytest.raises(ConnectionClosed):
            while True:
                client.receive(PATIENCE)
        assert closed == [[]]


# Several rooms.


def test_clients_are_in_several_rooms() -> None:
    with server() as chat, Clients(url_of(chat), ["ops", "Dev"], nick="robot") as clients:
        assert clients.rooms == ["ops", "dev"]
        welcomed = {clients.receive(PATIENCE)[0] for _ in clients.rooms}
        assert welcomed == {"ops", "dev"}
        clients["ops"].say("one")
        room, event = clients.receive(PATIENCE)
        assert room == "ops"
        assert messages([event]) == ["one"]
        chat.say("two", room="dev")
        room, event = clients.receive(PATIENCE)
        assert room == "dev"
        assert messages([event]) == ["two"]
        with pytest.raises(TimeoutError):
            clients.receive(0)
        assert clients.close() == {}
        ended = [clients.receive(PATIENCE) for _ in clients.rooms]
        assert {room for room, _ in ended} == {"ops", "dev"}
        assert all(isinstance(event, Disconnected) for _, event in ended)
        with pytest.raises(ConnectionClosed):
            clients.receive(PATIENCE)


def test_a_busy_room_delays_no_other_and_a_restart_loses_nothing() -> None:
    port = free_port()
    with ExitStack() as stack:
        chat = stack.enter_context(server(port))
        clients = stack.enter_context(Clients(url_of(chat), ["busy", "quiet"], nick="robot"))
        for _ in clients.rooms:
            clients.receive(PATIENCE)
        for number in range(100):
            chat.say(str(number), room="busy")
        chat.say("hello", room="quiet")
        wait_for(lambda: clients["busy"].unacknowledged == 0)
        heard: dict[str, list[str]] = {"busy": [], "quiet": []}
        at = 0
        while sum(map(len, heard.values())) < 101:
            room, event = clients.receive(PATIENCE)
            heard[room] += messages([event])
            at = at or (len(heard["busy"]) if heard["quiet"] else 0)
        assert heard["busy"] == [str(number) for number in range(100)]
        chat.stop()
        chat.start()
        clients["quiet"].say("back")
        while "back" not in heard["quiet"]:
            room, event = clients.receive(PATIENCE)
            heard[room] += messages([event])


def test_clients_wait_for_their_server_and_are_all_closed_if_one_is_refused() -> None:
    port = free_port()
    with pytest.raises(CannotConnect):
        Clients(f"ws://127.0.0.1:{port}/chat/", ["a", "b"]).connect(wait=True, timeout=0.1)
    with pytest.raises(ValueError, match="room"):
        Clients(f"ws://127.0.0.1:{port}/", [])
    with server(port) as chat:
        clients = Clients(url_of(chat), ["a", "b"], nick="robot").connect(wait=True)
        clients["a"].say("x")
        clients["a"].flush(PATIENCE)
        assert clients.close(5) == {}
