"""Rooms that a client watches: activity, mentions, and entering without a loss."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from syncchat import ChatServer, Rejected, Visitor
from tests.peer import PATIENCE, wait_for
from tests.people import Json, Plain, url_of
from tests.redis_server import RedisProcess


def watch(client: Json, *rooms: str, **after: str) -> list[dict[str, Any]]:
    """Watch rooms, and return the answers. ``after``: the positions by room."""
    client.ask(type="watch", rooms=[{"room": room} for room in rooms])
    wanted = [{"room": room, "after": place} for room, place in after.items()]
    if wanted:
        client.ask(type="watch", rooms=wanted)
    return [client.event("activity") for _ in [*rooms, *after]]


def test_a_watched_room_tells_its_position_what_is_unread_and_mentions() -> None:
    with ChatServer(port=0) as chat, Json(url_of(chat, "/?nick=ann")) as ann:
        ann.event("welcome")
        for text in ("one", "two", "three"):
            chat.say(text, "ops")
        (answer,) = watch(ann, "#Ops")
        epoch = answer.pop("epoch")
        assert answer == {"type": "activity", "room": "ops", "offset": 3}
        (answer,) = watch(ann, ops=f"{epoch}:1")
        assert answer["unread"] == 2
        chat.say("Hello, ANN!", "ops")
        chat.say("annoying", "ops")
        said = ann.event("activity")
        while said["offset"] < 5:
            said = ann.event("activity") | {k: v for k, v in said.items() if k == "mention"}
        assert said["mention"]["text"] == "Hello, ANN!"
        assert said["mention"]["offset"] == 4
        # Entering resumes after the last position that was seen.
        ann.ask(type="join", room="ops", after=f"{epoch}:3")
        ann.event("welcome")
        history = ann.event("history")
        assert [each["offset"] for each in history["messages"]] == [4, 5]
        assert history["complete"]


def test_activity_comes_at_most_once_a_second_and_says_the_end() -> None:
    with ChatServer(port=0) as chat, Json(url_of(chat, "/?nick=ann")) as ann:
        ann.event("welcome")
        watch(ann, "ops", "dev")
        begin = time.monotonic()
        ends = {"ops": 0, "dev": 0}
        heard = 0
        for number in range(40):
            chat.say(str(number), "ops" if number % 2 else "dev")
            time.sleep(0.02)
        while set(ends.values()) != {20}:
            activity = ann.event("activity")
            assert activity["offset"] > ends[activity["room"]]
            ends[activity["room"]] = activity["offset"]
            heard += 1
        assert heard <= 2 * (2 + int(time.monotonic() - begin))


def test_rooms_that_cannot_be_watched_are_refused_one_by_one() -> None:
    with ChatServer(port=0, max_rooms=300) as chat, Json(url_of(chat)) as ann:
        ann.event("welcome")
        rooms = ["a b", "ok", *(f"r{number}" for number in range(198))]
        ann.ask(type="watch", rooms=[{"room": room} for room in rooms])
        error = ann.event("error")
        assert (error["code"], error["command"]) == ("room", "watch")
        for _ in rooms[1:]:
            ann.event("activity")
        ann.ask(type="watch", rooms=[{"room": "last"}, {"room": "more"}])
        # The activity of the one that can be watched may come first.
        assert ann.find("error")["text"] == "You can watch at most 200 rooms; not more."
        ann.ask(type="unwatch", rooms=["ok", "R1", "unknown", "a b"])
        watch(ann, "more")


def test_a_private_message_reaches_another_room_and_the_reply_comes_back() -> None:
    with (
        ChatServer(port=0, greeting="") as chat,
        Json(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/ops?nick=bob")) as bob,
        Json(url_of(chat, "/dev?nick=cat")) as cat,
        Json(url_of(chat, "/ops?nick=cat")) as other,
    ):
        ann.event("welcome")
        other.event("welcome")
        ann.ask(type="private", to="BOB", text="psst")
        receipt = ann.event("private")
        assert (receipt["nick"], receipt["to"], receipt["text"]) == ("ann", "bob", "psst")
        bob.hear_until("[PM from ann] psst")
        bob.send("/reply what?")
        bob.hear_until("-> [Sent PM to ann] what?")
        assert ann.event("private")["text"] == "what?"
        # bob would take this one for the other cat, in his room.
        cat.event("welcome")
        cat.ask(type="private", to="bob", text="psst")
        assert cat.event("error")["code"] == "nick_taken"
        ann.ask(type="private", to="cat", text="psst")
        error = ann.event("error")
        assert error["code"] == "absent"
        assert "dev, ops" in error["text"]
        ann.ask(type="private", to="fred", text="psst")
        assert ann.event("error")["text"] == "fred is not here."


def test_only_people_with_a_token_have_places() -> None:
    with ChatServer(port=0) as chat, Json(url_of(chat)) as ann:
        place = f"{ann.event('welcome')['epoch']}:0"
        ann.ask(type="seen", room="lobby", place=place)
        error = ann.event("error")
        assert (error["code"], error["command"]) == ("forbidden", "seen")


@pytest.mark.slow
def test_rooms_are_watched_and_private_messages_sent_across_servers() -> None:
    with (
        RedisProcess() as redis,
        ChatServer(port=0, engine=redis.url, greeting="") as first,
        ChatServer(port=0, engine=redis.url, greeting="") as second,
        Json(url_of(first, "/?nick=ann")) as ann,
        Json(url_of(second, "/ops?nick=bob")) as bob,
    ):
        ann.event("welcome")
        epoch = bob.event("welcome")["epoch"]
        # Nobody is in dev on either server.
        watch(ann, "ops", "dev")
        bob.ask(type="say", text="hello ann")
        bob.event("message")
        activity = ann.find("activity", room="ops", offset=1)
        assert (activity["epoch"], activity["mention"]["text"]) == (epoch, "hello ann")
        second.say("nobody hears this", "dev")
        ann.find("activity", room="dev", offset=1)
        ann.ask(type="private", to="Bob", text="psst")
        assert ann.find("private")["to"] == "bob"
        assert bob.find("private")["nick"] == "ann"
        bob.ask(type="private", to="ann", text="what?")
        assert ann.find("private")["text"] == "what?"
        assert bob.find("private")["to"] == "ann"
        # Redis forgets everything: the log begins anew, with another epoch.
        redis.ask("FLUSHALL")
        bob.ask(type="say", text="again", nonce="n1")
        while (activity := ann.find("activity", room="ops"))["epoch"] == epoch:
            pass
        assert activity["offset"] >= 1


@pytest.mark.parametrize("engine", ["memory:", "sqlite"])
def test_a_room_that_begins_anew_is_unread_as_a_whole(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    with ChatServer(port=0, engine=engine if engine == "memory:" else f"sqlite:{path}") as chat:
        chat.say("one", "ops")
        chat.say("two", "ops")
        with Json(url_of(chat)) as ann:
            ann.event("welcome")
            (answer,) = watch(ann, ops="another-epoch:1")
            assert (answer["offset"], answer["unread"]) == (2, 2)
            (answer,) = watch(ann, ops=f"{answer['epoch']}:2")
            assert answer["unread"] == 0


def test_a_slow_client_that_watches_delays_nobody() -> None:
    with (
        ChatServer(port=0, rate=0) as chat,
        Json(url_of(chat, "/?nick=slow")) as slow,
        Json(url_of(chat, "/?nick=ann")) as ann,
    ):
        ann.event("welcome")
        rooms = [f"room{number}-{'x' * 50}" for number in range(200)]
        watch(ann, *rooms)
        for _ in range(500):
            # It reads none of the 200 answers to each.
            slow.ask(type="watch", rooms=[{"room": room} for room in rooms])
        begin = time.monotonic()
        chat.say("hello", rooms[0])
        ann.find("activity", room=rooms[0], offset=1)
        assert time.monotonic() - begin < 10


def test_a_program_decides_which_rooms_a_client_may_watch() -> None:
    asked: list[tuple[str, bool]] = []

    def on_join(visitor: Visitor) -> None:
        asked.append((visitor.room, visitor.watches))
        if visitor.room == "secret":
            raise Rejected("No.")

    with ChatServer(port=0, on_join=on_join) as chat, Json(url_of(chat)) as ann:
        ann.event("welcome")
        ann.ask(type="watch", rooms=[{"room": "secret"}, {"room": "ops"}])
        found = {each["type"]: each for each in (ann.event(), ann.event())}
        assert found["error"]["code"] == "refused"
        assert found["activity"]["room"] == "ops"
    assert asked == [("lobby", False), ("secret", True), ("ops", True)]


def test_a_client_between_two_rooms_is_told_of_the_one_that_it_has_left() -> None:
    goes_on = threading.Event()

    def on_join(visitor: Visitor) -> None:
        if visitor.room == "ops":
            assert goes_on.wait(PATIENCE)

    with ChatServer(port=0, on_join=on_join) as chat, Json(url_of(chat)) as ann:
        ann.event("welcome")
        watch(ann, "lobby")
        ann.ask(type="join", room="ops")
        wait_for(lambda: chat.members() == [])
        chat.say("You have missed this.")
        assert ann.event("activity")["offset"] == 1
        goes_on.set()
        assert ann.event("welcome")["room"] == "ops"
