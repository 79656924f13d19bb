"""What rooms make of an engine that fails, loses or delays, as one behind a network may."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from functools import partial

import pytest

from syncchat import Client, Disconnected, Gap, Reconnected
from syncchat.chat.events import Away, Message
from syncchat.engine import Departed, Revoked
from tests.engine.small_engines import (
    Around,
    DeliversOwn,
    FollowsAndIsSlow,
    FollowsOnAThread,
    IsAway,
    IsSlow,
    LosesAnswers,
    LosesMessages,
    serving,
)
from tests.peer import PATIENCE, InThread, wait_for
from tests.people import Json, Plain

GAP = "-> Some messages are missing here: they are no longer kept."


def offsets(client: Client, last: int) -> list[int]:
    """The offsets of the messages up to ``last``, as the client gets them."""
    got: list[int] = []
    while not got or got[-1] < last:
        event = client.receive(PATIENCE)
        if isinstance(event, Message):
            got.append(event.offset)
    return got


# A missing answer of the engine.


@pytest.mark.parametrize("lost", ["request", "answer", "delivery"])
def test_a_message_with_a_nonce_is_stored_once_whatever_is_lost(lost: str) -> None:
    engine = LosesAnswers(lambda call: lost if call == 1 else "")
    with (
        serving(engine) as url,
        Client(f"{url}/room?nick=ann").connect() as ann,
        Json(f"{url}/room?nick=bob") as bob,
    ):
        bob.event("welcome")
        for number in range(3):
            ann.say(str(number))
            ann.flush(PATIENCE)
        page = engine.read_before("room", None, 10)
        assert sorted(message.text for message in page.messages) == ["0", "1", "2"]
        ann.say("last")
        # bob gets every message, or is told of a gap.
        heard: list[str] = []
        complete = True
        while "last" not in heard:
            event = bob.event("message", "history")
            complete = complete and event.get("complete", True)
            heard += [each["text"] for each in event.get("messages", [event])]
        assert complete or lost == "delivery"
        assert not complete or sorted(heard) == ["0", "1", "2", "last"]


def test_the_sender_of_a_nonce_is_disconnected_and_learns_the_result_on_its_return() -> None:
    engine = LosesAnswers(lambda call: "delivery" if call == 0 else "")
    with serving(engine) as url:
        with Json(f"{url}/room?nick=ann") as ann:
            epoch = ann.event("welcome")["epoch"]
            ann.ask(type="say", text="kept?", nonce="n1")
            assert ann.hear_end() == 1013
        with Json(f"{url}/room?nick=ann&after={epoch}:0") as ann:
            ann.event("welcome")
            history = ann.event("history")
            assert history["complete"]
            ann.ask(type="say", text="kept?", nonce="n1")
            # In the history or live.
            if not history["messages"]:
                assert ann.event("ack", "message")["offset"] == 1
            else:
                assert ann.event("ack")["offset"] == 1


def test_without_a_nonce_the_sender_is_told_that_the_result_is_unknown() -> None:
    engine = LosesAnswers(lambda _: "request")
    with serving(engine) as url, Plain(f"{url}/room") as plain, Json(f"{url}/room") as json:
        json.event("welcome")
        plain.send("a")
        assert plain.hear() == "-> It is unknown whether your message was stored: no answer."
        json.ask(type="action", text="waves")
        error = json.event("error")
        assert (error["code"], error["command"]) == ("unavailable", "action")
        assert error["text"].startswith("It is unknown whether")
        # Both are still there.
        plain.send("/names")
        assert plain.hear().startswith("-> 2 connected")


# Missing messages.


def test_members_are_told_of_messages_that_the_engine_has_lost() -> None:
    engine = LosesMessages()
    with (
        serving(engine) as url,
        Json(f"{url}/room?nick=ann") as ann,
        Plain(f"{url}/room?nick=bob") as bob,
        Client(f"{url}/room?nick=eve").connect() as eve,
    ):
        ann.event("welcome")
        wait_for(lambda: len(engine.names("room")) == 3)
        ann.ask(type="say", text="one")
        assert ann.event("message")["offset"] == 1
        engine.loses_next = True
        ann.ask(type="say", text="two")
        wait_for(lambda: engine.log.follow("room").offset == 2)
        ann.ask(type="say", text="three")
        history = ann.event("history")
        assert not history["complete"]
        assert [message["text"] for message in history["messages"]] == ["three"]
        ann.ask(type="say", text="four")
        assert ann.event("message")["offset"] == 4
        assert [bob.hear() for _ in range(4)] == ["ann: one", GAP, "ann: three", "ann: four"]
        seen: list[object] = []
        while not (seen and seen[-1] == 4):
            event = eve.receive(PATIENCE)
            if isinstance(event, Message | Gap):
                seen.append(event.offset if isinstance(event, Message) else "gap")
        assert seen == [1, "gap", 3, 4]
        # A client that returns from the last position misses nothing.
        assert engine.read_before("room", None, 10).messages[-1].offset == 4


def test_a_client_that_enters_while_messages_are_lost_is_told_of_the_gap() -> None:
    engine = LosesMessages()
    with serving(engine) as url, Json(f"{url}/room?nick=ann") as ann:
        epoch = ann.event("welcome")["epoch"]
        engine.loses_next = True
        ann.ask(type="say", text="one")
        wait_for(lambda: engine.keeps("room"))
        # The room has delivered no message, so it shows none.
        with Json(f"{url}/room?nick=bob&after={epoch}:0") as bob:
            assert bob.event("welcome")["offset"] == 0
            assert bob.event("history")["messages"] == []
            ann.ask(type="say", text="two")
            for person in (ann, bob):
                history = person.event("history")
                assert not history["complete"]
                assert history["messages"][0]["offset"] == 2


def test_after_a_new_epoch_clients_reconnect_and_are_told_of_the_gap() -> None:
    engine = LosesMessages()
    with (
        serving(engine) as url,
        Client(f"{url}/room?nick=ann").connect() as ann,
        Json(f"{url}/room?nick=bob") as bob,
        Plain(f"{url}/room?nick=carl") as carl,
    ):
        epoch = bob.event("welcome")["epoch"]
        wait_for(lambda: len(engine.names("room")) == 3)
        ann.say("old")
        ann.flush(PATIENCE)
        assert carl.hear() == "ann: old"
        engine.begin_anew("room")
        assert bob.hear_end() == 1012
        assert carl.hear() == GAP
        with Json(f"{url}/room?nick=bob&after={epoch}:1") as back:
            assert back.event("welcome")["epoch"] != epoch
            assert not back.event("history")["complete"]
        seen: list[type] = []
        while Gap not in seen:
            seen.append(type(ann.receive(PATIENCE)))
        assert Disconnected in seen
        assert Reconnected in seen
        ann.say("new")
        ann.flush(PATIENCE)
        assert carl.hear() == "ann: new"


# A slow engine, and an engine with threads of its own.


def test_what_a_room_has_from_its_own_append_is_not_delivered_again() -> None:
    with (
        serving(DeliversOwn()) as url,
        Json(f"{url}/room?nick=ann") as ann,
        Json(f"{url}/room?nick=bob") as bob,
    ):
        for person in (ann, bob):
            person.event("welcome")
        for number in range(15):
            for person in (ann, bob):
                person.ask(type="say", text=f"{number}")
        for person in (ann, bob):
            heard = [person.event("message")["offset"] for _ in range(30)]
            assert heard == [*range(1, 31)]
            person.ask(type="history", limit=1)
            assert person.event("history")["messages"][0]["offset"] == 30


def test_a_room_that_waits_for_its_engine_blocks_no_other_room() -> None:
    engine = IsSlow()
    with serving(engine) as url:
        ann = Json(f"{url}/slow?nick=ann")
        ann.event("welcome")
        engine.slow = True
        # Leaving waits for the engine, too.
        leaving = InThread(ann.websocket.close)
        assert engine.asked.wait(PATIENCE)
        # The room is about to end, and its engine does not answer.
        with Json(f"{url}/other?nick=bob") as bob:
            bob.event("welcome")
            bob.ask(type="say", text="on it goes")
            bob.event("message")
            again = InThread(lambda: Json(f"{url}/slow?nick=ann"))
            third = Json(f"{url}/third?nick=bob")
            third.event("welcome")
            bob.ask(type="say", text="and on")
            bob.event("message")
            engine.go_on.set()
            third.websocket.close()
        leaving.result()
        with again.result() as ann:
            assert ann.event("welcome")["nick"] == "ann"
            ann.ask(type="say", text="back")
            assert ann.event("message")["offset"] == 1


def test_what_arrives_for_a_slow_room_holds_up_no_other_room() -> None:
    engine = FollowsAndIsSlow()
    with serving(engine) as url, Json(f"{url}/other?nick=bob") as bob:
        bob.event("welcome")
        ann = Json(f"{url}/slow?nick=ann")
        ann.event("welcome")
        engine.slow = True
        leaving = InThread(ann.websocket.close)
        assert engine.asked.wait(PATIENCE)
        # So long that other threads would relieve the one that waits for the engine.
        relieved_at = time.monotonic() + 0.1
        wait_for(lambda: time.monotonic() > relieved_at)
        engine.on_live("slow", Away("eve", "lunch"))
        bob.ask(type="say", text="on it goes")
        bob.event("message")
        assert time.monotonic() < relieved_at + PATIENCE / 2
        engine.go_on.set()
        leaving.result()


def test_a_refused_client_blocks_no_other_room() -> None:
    engine = IsSlow()
    with serving(engine, most=1) as url, Json(f"{url}/only?nick=ann") as ann:
        ann.event("welcome")
        engine.slow = True
        # The engine is asked whether there is still something in other rooms.
        with Json(f"{url}/other?nick=bob") as bob:
            assert engine.asked.wait(PATIENCE)
            with Json(f"{url}/only?nick=eve") as eve:
                assert eve.event("welcome")["members"] == ["ann", "eve"]
            engine.go_on.set()
            assert bob.event("error")["code"] == "room"
            assert bob.hear_end() == 1013


def test_a_failure_of_the_engine_is_an_error_and_the_room_continues() -> None:
    engine = IsAway()
    with (
        serving(engine, notices=True) as url,
        Json(f"{url}/room?nick=ann") as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        bob = stack.enter_context(Json(f"{url}/room?nick=bob"))
        ann.find("joined", nick="bob")
        bob.event("welcome")
        engine.away = True
        for asked, command in [
            ({"type": "say", "text": "x", "nonce": "1"}, "say"),
            ({"type": "nick", "nick": "eve"}, "nick"),
            ({"type": "private", "to": "bob", "text": "x"}, "private"),
            ({"type": "away"}, "away"),
            ({"type": "back"}, "back"),
            ({"type": "names"}, "names"),
        ]:
            ann.ask(**asked)
            error = ann.event("error")
            assert (error["code"], error["command"]) == ("unavailable", command)
            assert "the storage is away" in error["text"]
        engine.away = False
        ann.ask(type="say", text="x", nonce="1")
        assert ann.event("message")["nick"] == "ann"
        assert bob.event("message")["offset"] == 1
        ann.ask(type="nick", nick="eve")
        assert bob.event("renamed")["nick"] == "eve"


def test_joining_is_exact_with_an_engine_that_delivers_on_another_thread() -> None:
    engine, total = FollowsOnAThread(), 3000
    with serving(engine, notices=True) as url, Json(f"{url}/room?nick=ann") as ann:
        epoch = ann.event("welcome")["epoch"]
        begun = threading.Event()

        def talk() -> None:
            for number in range(total):
                ann.ask(type="say", text=str(number), nonce=str(number))
                if number == 100:
                    begun.set()

        talking = InThread(talk)
        assert begun.wait(PATIENCE)

        def come(number: int) -> list[int]:
            with Json(f"{url}/room?nick=n{number}&after={epoch}:0") as person:
                got: list[int] = []
                while not got or got[-1] < total:
                    event = person.event()
                    if event["type"] == "history":
                        assert event["complete"]
                        got += [message["offset"] for message in event["messages"]]
                    elif event["type"] == "message":
                        got.append(event["offset"])
                return got

        people = [InThread(partial(come, number)) for number in range(5)]
        for person in people:
            assert person.result() == list(range(1, total + 1))
        talking.result()
        # A known nonce is acknowledged, a new message comes back.
        ann.find("message", offset=total)
        ann.ask(type="say", text="0", nonce="0")
        ack = ann.find("ack")
        assert (ack["epoch"], ack["offset"]) == (epoch, 1)


def test_a_room_is_followed_from_its_first_member_to_its_last() -> None:
    engine = FollowsOnAThread()
    with serving(engine) as url:
        for _ in range(3):
            with Json(f"{url}/room?nick=ann") as ann, Plain(f"{url}/room?nick=bob") as bob:
                ann.event("welcome")
                wait_for(lambda: "bob" in engine.names("room"))
                ann.ask(type="private", to="bob", text="psst")
                assert bob.hear() == "[PM from ann] psst"
                ann.event("private")
            # Without messages, the room is removed.
            wait_for(lambda: engine.names("room") == [])
        assert engine.rooms() == []


def test_members_learn_of_claims_that_end_by_themselves() -> None:
    engine = Around()
    with (
        serving(engine, notices=True) as url,
        Json(f"{url}/room?nick=ann") as ann,
        ExitStack() as stack,
    ):
        ann.event("welcome")
        bob = stack.enter_context(Json(f"{url}/room?nick=bob"))
        address = f"127.0.0.1:{bob.websocket.local_address[1]}"
        ann.find("joined", nick="bob")
        bob.event("welcome")
        assert engine.claims_changed is not None
        # bob is here, so that it has not left.
        engine.claims_changed("room", Departed(["bob", "eve"]))
        left = ann.event("left")
        assert (left["nick"], left["reason"]) == ("eve", "connection lost")
        engine.claims_changed("room", Departed(["eve", "carl"]))
        assert ann.event("left")["others"] == ["carl"]
        engine.claims_changed("room", Revoked(["bob", "nobody"]))
        assert bob.find("error")["code"] == "nick_taken"
        for person in (ann, bob):
            assert person.find("renamed") == {"type": "renamed", "old": "bob", "nick": address}
            assert person.find("joined")["nick"] == "bob"
        bob.ask(type="say", text="x")
        assert ann.find("message")["nick"] == address
