"""Rooms that a client watches: activity, mentions, and entering without a loss."""

from __future__ import annotations

import time
from typing import Any

from syncchat import ChatServer
from tests.people import Json, Plain, url_of


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
        for number in range(300):
            chat.say(str(number), "ops" if number % 2 else "dev")
        while set(ends.values()) != {150}:
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
        assert ann.event("error")["text"] == "You can watch at most 200 rooms; not more."
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
