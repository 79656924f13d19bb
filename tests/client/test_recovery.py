"""What the client has received and what it has still to send, over breaks."""

from __future__ import annotations

import pytest

from syncchat import (
    ChatServer,
    Client,
    Gap,
)
from syncchat.chat.events import (
    Ack,
    ClientLimits,
    History,
    Message,
    Welcome,
    encode,
)
from syncchat.client.outbox import Item, Outbox
from syncchat.client.reconnect import asks_for_past, url_for
from syncchat.client.tracker import Tracker
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE
from tests.people import cut, messages, until, url_of

# The parts.


def welcome(offset: int, epoch: str = "e", room: str = "lobby") -> Welcome:
    limits = ClientLimits(65536, 32, 10.0, 20)
    return Welcome(room, "ann", epoch, offset, ["ann"], "syncchat", limits, "{text}")


def message(offset: int) -> Message:
    return Message(offset, 0.0, "bob", str(offset), "message")


def fed(tracker: Tracker, *events: object) -> list[object]:
    told = [each for event in events for each in tracker.feed(event)]  # type: ignore[arg-type]
    return [each.offset if isinstance(each, Message) else type(each).__name__ for each in told]


def test_a_break_before_the_history_has_come_forgets_nothing() -> None:
    tracker = Tracker()
    tracker.expect(resume=False, history=False)
    assert fed(tracker, welcome(5), message(6)) == ["Welcome", 6]
    assert tracker.place == "e:6"
    for _ in range(2):
        tracker.expect(resume=True, history=False)
        assert fed(tracker, welcome(9)) == ["Welcome"]
        assert tracker.place == "e:6"
    pieces = [History((message(7),), True), History((message(8), message(9)), True)]
    assert fed(tracker, *pieces, message(10)) == [7, 8, 9, 10]
    tracker.expect(resume=True, history=False)
    # Another log: the place holds until its past has come, and then a new one.
    assert fed(tracker, welcome(3, "f")) == ["Welcome"]
    assert tracker.place == "e:10"
    assert fed(tracker, History((message(2), message(3)), False), message(4)) == ["Gap", 2, 3, 4]
    assert tracker.place == "f:4"


def test_a_message_is_handed_out_once_and_a_hole_is_told() -> None:
    tracker = Tracker()
    tracker.expect(resume=False, history=True)
    assert tracker.place is None
    assert fed(tracker, welcome(2), History((message(1), message(2)), True)) == ["Welcome", 1, 2]
    assert fed(tracker, message(2), message(3), message(3), message(6)) == [3, "Gap", 6]
    assert fed(tracker, Ack("n", 7), message(8)) == ["Ack", 8]
    # Another room has a log of its own.
    assert fed(tracker, welcome(1, "g", "ops"), message(2)) == ["Welcome", 2]
    assert tracker.place == "g:2"


def test_a_server_that_gives_no_history_gives_its_messages_all_the_same() -> None:
    tracker = Tracker()
    tracker.expect(resume=False, history=True)
    assert fed(tracker, welcome(5), message(6)) == ["Welcome", 6]
    assert fed(tracker, welcome(2, "g", "ops"), message(3)) == ["Welcome", 3]
    assert tracker.place == "g:3"
    tracker.expect(resume=False, history=True)
    # What was asked for by a place of one's own is told where it is gone.
    assert fed(tracker, welcome(9), History((message(8), message(9)), False)) == [
        "Welcome", "Gap", 8, 9,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "history", "asks"),
    [
        ("ws://h/", 0, False),
        ("ws://h/", 3, True),
        ("ws://h/?history=0", 0, False),
        ("ws://h/?history=5", 0, True),
        ("ws://h/?history=x", 0, False),
        ("ws://h/?after=e:5", 0, True),
    ],
)
def test_a_url_may_ask_for_the_past(url: str, history: int, *, asks: bool) -> None:
    assert asks_for_past(url, history) is asks


def test_a_place_in_the_url_is_where_a_client_begins() -> None:
    with ChatServer(port=0, notices=False) as chat:
        for text in ("one", "two", "three"):
            chat.say(text)
        with Client(url_of(chat)) as client:
            until(client, Welcome)
            epoch = client._link.welcome.epoch  # type: ignore[union-attr]
        with Client(url_of(chat, f"/?after={epoch}:1")) as client:
            assert messages(until(client, Message)) == ["two"]
            assert messages(until(client, Message)) == ["three"]
        with Client(url_of(chat, "/?history=0")) as client:
            until(client, Welcome)
            client.join("other")
            client.say("first there")
            assert messages(until(client, Message)) == ["first there"]
            assert client._link._protocol.tracker.place is not None
            assert client._link._protocol.tracker.place.endswith(":1")


def test_history_and_live_meet_in_a_room_that_is_joined() -> None:
    """Issue 13, item 11: the tracker begins behind the past that it is given."""
    tracker = Tracker(history_on_join=True)
    tracker.expect(resume=False, history=True)
    assert fed(tracker, welcome(2), History((message(2),), True)) == ["Welcome", 2]
    assert fed(tracker, welcome(7, "g", "ops")) == ["Welcome"]
    past = History((message(6), message(7)), True)
    assert fed(tracker, past, message(7), message(8)) == [6, 7, 8]
    assert tracker.place == "g:8"
    # A room of which nothing is kept.
    assert fed(tracker, welcome(0, "h", "new"), History((), True), message(1)) == ["Welcome", 1]
    # A server that does not know of it.
    assert fed(tracker, welcome(5, "i", "old"), message(6)) == ["Welcome", 6]


@pytest.mark.parametrize("query", ["", "?history=5"])
def test_a_joined_room_begins_with_its_last_messages(query: str) -> None:
    """Issue 13, item 11: as many as the client asks for on entering, by keyword or URL."""
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
            # And again after a break, with no repeat.
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


def test_the_outbox_sends_a_window_again_and_a_join_alone() -> None:
    outbox = Outbox()
    for number in range(100):
        outbox.add(Item(str(number), f"n{number}", ""))
    outbox.add(Item("join", None, ""))
    outbox.add(Item("behind", "b", ""))

    def sendable() -> list[str]:
        return [item.text for item in iter(outbox.next, None)]

    first = [str(number) for number in range(64)]
    assert sendable() == first
    for number in range(10):
        outbox.settle(f"n{number}")
    outbox.settle("a stranger's")
    assert sendable() == [str(number) for number in range(64, 74)]
    outbox.rewind(tried=True)
    assert len(outbox) == 92
    assert sendable() == [str(number) for number in range(10, 74)]
    for number in range(100):
        outbox.settle(f"n{number}")
        sendable()
    assert len(outbox) == 2
    outbox.settle(None)
    assert sendable() == ["behind"]


def test_a_message_of_any_size_gets_through_an_empty_window() -> None:
    outbox = Outbox()
    for nonce in "ab":
        outbox.add(Item("x" * 1_000_000, nonce, ""))
    assert outbox.next() is not None
    assert outbox.next() is None
    outbox.settle("a")
    assert outbox.next() is not None


def test_the_url_to_come_back_to() -> None:
    base = "ws://h:1/ops?token=a%26b&nick=old&history=9&after=x:1"
    wanted = "ws://h:1/ops?token=a%26b&nick=ann&after=e%3A5"
    assert url_for(base, rooms=None, nick="ann", after="e:5", history=3) == wanted
    for path, first, room, wanted in [
        ("/", "lobby", "lobby", "/"),
        ("/", "lobby", "a/b c", "/a%2Fb%20c"),
        ("/ops/", "ops", "ops", "/ops/"),
        ("/a%20b", "a b", "ops", "/ops"),
        # A room is called by the one spelling of its name.
        ("/OPS", "ops", "other", "/other"),
        ("/%23Ops/", "ops", "other", "/other"),
        ("/STRASSE", "strasse", "other", "/other"),
        # Behind a proxy that takes a prefix away.
        ("/chat/ops", "ops", "ops", "/chat/ops"),
        ("/chat/ops", "ops", "other", "/chat/other"),
        ("/chat/", "lobby", "other", "/chat/other"),
        ("/chat/OPS", "ops", "other", "/chat/other"),
        ("/my%20chat/", "lobby", "other", "/my%20chat/other"),
    ]:
        url = url_for(f"ws://h{path}", rooms=(first, room), nick=None, after=None, history=3)
        assert url == f"ws://h{wanted}?history=3"
    assert url_for(base, rooms=None, nick=None, after=None, history=0) == (
        "ws://h:1/ops?token=a%26b&nick=old&history=9&after=x%3A1"
    )


def test_a_nick_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="reserved"):
        Client("ws://127.0.0.1/", nick="server")


def test_events_of_a_later_version_are_passed_over() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send(encode(welcome(0)))
        websocket.send('{"type":"hologram","of":"ann"}')
        websocket.send("no JSON at all")
        websocket.send(encode(message(1)))
        websocket.recv()

    with serve(handler, subprotocols=["syncchat.v1"]) as server:
        with Client(f"ws://127.0.0.1:{server.port}/", reconnect=False) as client:
            assert messages(until(client, Message)) == ["1"]
