"""Received and unacknowledged messages across reconnects."""

from __future__ import annotations

import pytest

from syncchat import ChatServer, Client, Gap
from syncchat.chat.events import Message, Welcome
from tests.peer import PATIENCE
from tests.people import cut, messages, until, url_of


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
