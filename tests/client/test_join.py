"""Going to another room from a place that was seen, and connecting anew on request."""

from __future__ import annotations

from syncchat import ChatServer, Client
from syncchat.chat.events import Message, Welcome
from syncchat.client import Disconnected, Gap, Reconnected
from tests.peer import PATIENCE
from tests.people import url_of


def until(client: Client, text: str) -> list[object]:
    """The events up to the message with that text."""
    events: list[object] = []
    while True:
        event = client.receive(PATIENCE)
        events.append(event)
        if isinstance(event, Message) and event.text == text:
            return events


def test_a_join_continues_after_a_place_or_with_the_last_messages() -> None:
    with ChatServer(port=0, notices=False) as chat, Client(url_of(chat), nick="ann") as client:
        for number in range(5):
            chat.say(f"message {number}", room="ops")
        client.join("ops", history=2)
        welcome = next(e for e in until(client, "message 4") if isinstance(e, Welcome) and e.offset)
        client.join("lobby")
        client.join("ops", after=f"{welcome.epoch}:2")
        seen = until(client, "message 4")
        assert [e.offset for e in seen if isinstance(e, Message)] == [3, 4, 5]
        assert not any(isinstance(e, Gap) for e in seen)
        client.join("lobby")
        client.join("ops", after="another:2")
        assert any(isinstance(e, Gap) for e in until(client, "message 4"))
        client.join("lobby")
        client.join("ops")
        chat.say("live", room="ops")
        client.flush(PATIENCE)
        chat.say("later", room="ops")
        assert "message 4" not in [e.text for e in until(client, "later") if isinstance(e, Message)]


def test_the_client_connects_anew_on_request_and_misses_nothing() -> None:
    with ChatServer(port=0, notices=False) as chat, Client(url_of(chat), nick="ann") as client:
        chat.say("one")
        until(client, "one")
        client.reconnect()
        chat.say("two")
        events = until(client, "two")
        assert [type(e) for e in events if isinstance(e, Disconnected | Reconnected)] == [
            Disconnected,
            Reconnected,
        ]
