"""Received and unacknowledged messages across reconnects."""

from __future__ import annotations

import pytest

from syncchat import ChatServer, Client, Disconnected, Gap
from syncchat.chat.events import (
    Ack,
    Error,
    History,
    Message,
    Say,
    Welcome,
    decode_from_client,
    encode,
)
from syncchat.errors import ConnectionClosed
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE
from tests.people import cut, messages, until, url_of
from tests.stage import welcome


def test_a_client_begins_at_the_position_in_the_url() -> None:
    with ChatServer(port=0, notices=False) as chat:
        for text in ("one", "two", "three"):
            chat.say(text)
        with Client(url_of(chat)) as client:
            welcome = client.receive(PATIENCE)
            assert isinstance(welcome, Welcome)
        with Client(url_of(chat, f"/?after={welcome.epoch}:1")) as client:
            assert messages(until(client, Message)) == ["two"]
            assert messages(until(client, Message)) == ["three"]
        with Client(url_of(chat, "/?history=0")) as client:
            until(client, Welcome)
            client.join("other")
            client.say("first there")
            first = until(client, Message)[-1]
            assert isinstance(first, Message)
            assert (first.text, first.offset) == ("first there", 1)


@pytest.mark.parametrize("query", ["", "?history=5"])
def test_a_joined_room_begins_with_its_last_messages(query: str) -> None:
    """Issue 13, item 11: as many as the client requests on entering, by keyword or URL."""
    with ChatServer(port=0, notices=False, rate=0) as chat:
        for number in range(20):
            chat.say(str(number), room="ops")
        with Client(url_of(chat, f"/{query}"), history=0 if query else 5) as client:
            until(client, Welcome)
            client.join("ops")
            client.say("live")
            heard = until(client, Welcome)
            while "live" not in messages(heard):
                heard.append(client.receive(PATIENCE))
            assert messages(heard) == ["15", "16", "17", "18", "19", "live"]
            assert not any(isinstance(event, Gap) for event in heard)
            # Again after a reconnect, without a repeat.
            cut(client)
            client.say("after it")
            assert messages(until(client, Message)) == ["after it"]
            client.join("empty")
            client.say("first")
            assert messages(until(client, Message)) == ["first"]
        with Client(url_of(chat)) as client:
            client.join("ops")
            client.say("last")
            assert messages(until(client, Message)) == ["last"]


def test_an_invalid_nick_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="reserved"):
        Client("ws://127.0.0.1/", nick="server")


def test_the_refusal_of_a_repeat_is_no_answer_to_the_message() -> None:
    """It may be stored since it was said first: the client says it once more."""
    said: list[list[str]] = []

    def hear(websocket: WebSocket) -> str:
        event = decode_from_client(str(websocket.recv(PATIENCE)))
        assert isinstance(event, Say)
        said[-1].append(event.text)
        assert event.nonce is not None
        return event.nonce

    def handler(websocket: WebSocket) -> None:
        said.append([])
        match len(said):
            case 1:
                websocket.send(encode(welcome()))
                hear(websocket)
                hear(websocket)
                websocket.close(1012)
            case 2:
                websocket.send(encode(welcome()))
                one, two = hear(websocket), hear(websocket)
                stored = Message(1, 0.0, "ann", "one", "message", one)
                websocket.send(encode(History((stored,), complete=True)))
                for nonce in (one, two):
                    websocket.send(encode(Error("unavailable", "Not now.", "say", nonce)))
                with pytest.raises(ConnectionClosed):
                    websocket.recv(PATIENCE)
            case _:
                websocket.send(encode(welcome()))
                websocket.send(encode(History((), complete=True)))
                websocket.send(encode(Ack(hear(websocket), 2, "e")))

    with (
        serve(handler, subprotocols=["syncchat.v1"]) as server,
        Client(f"ws://127.0.0.1:{server.port}/") as client,
    ):
        client.say("one")
        client.say("two")
        client.flush(PATIENCE)
        heard = list(client)
    assert said == [["one", "two"], ["one", "two"], ["two"]]
    assert messages(heard) == ["one"]
    assert not any(isinstance(event, Error | Gap) for event in heard)
    breaks = [event.code for event in heard if isinstance(event, Disconnected)]
    assert breaks == [1012, 1013]
