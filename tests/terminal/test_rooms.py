"""Several rooms in the terminal: the bar, switching, unread messages, mentions."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from syncchat.chat.events import (
    Activity,
    BanEntry,
    Bans,
    Done,
    FromServer,
    History,
    Join,
    Leave,
    Message,
    Moderated,
    Motd,
    Private,
    ReadOnly,
    RoomCount,
    Rooms,
    Seen,
    Topic,
    Unwatch,
    Watch,
    WatchedRoom,
    Welcome,
    Whois,
)
from syncchat.terminal import Keeper, Preferences
from syncchat.terminal.notification import notification
from syncchat.terminal.rooms import Room, RoomList, best_matches
from syncchat.terminal.safe_text import sanitized
from syncchat.terminal.toolbar import room_bar
from tests.peer import wait_for
from tests.screen import Screen
from tests.stage import Stage, welcome


def in_room(room: str, offset: int, epoch: str = "e", **more: object) -> Welcome:
    return msgspec.structs.replace(welcome(offset), room=room, epoch=epoch, **more)


def message(offset: int, text: str, nick: str = "bob", kind: str = "message") -> Message:
    return Message(offset, 0.0, nick, text, kind)  # type: ignore[arg-type]


def history(first: int, last: int) -> History:
    told = tuple(message(number, f"message {number}") for number in range(first, last + 1))
    return History(told, complete=True)


# The list of rooms.


def followed(*events: FromServer) -> RoomList:
    rooms = RoomList()
    for event in events:
        rooms.apply(event, "ann")
    return rooms


def test_the_room_that_one_leaves_is_watched_from_what_was_seen() -> None:
    rooms = followed(in_room("lobby", 5), message(6, "hello"), in_room("ops", 2, "f"))
    assert rooms.others() == (WatchedRoom("lobby", "e:6"),)
    assert [room.name for room in rooms.watched] == ["lobby", "ops"]


def test_unread_messages_are_counted_from_the_answer_on() -> None:
    rooms = followed(in_room("lobby", 5), in_room("ops", 2, "f"))
    for offset, unread in ((7, 2), (10, None), (11, None)):
        rooms.apply(Activity("lobby", "e", offset, unread), "ann")
    lobby = rooms.get("lobby")
    assert lobby is not None
    assert (lobby.unread, lobby.seen, lobby.mentioned) == (6, 5, False)
    # A new answer, as after a break, replaces the count.
    rooms.apply(Activity("lobby", "e", 11, 6, message(11, "ann?")), "ann")
    lobby = rooms.get("lobby")
    assert lobby is not None
    assert (lobby.unread, lobby.mentioned) == (6, True)
    # In a new log, everything is unread.
    rooms.apply(Activity("lobby", "g", 3), "ann")
    lobby = rooms.get("lobby")
    assert lobby is not None
    assert (lobby.unread, lobby.place) == (3, "g:0")


def test_what_was_missed_is_told_once_and_marked_at_its_place() -> None:
    rooms = RoomList([Room("lobby", "e", 3, 3)], history=1)
    assert rooms.apply(in_room("lobby", 5), "ann").missed == 2
    notes = [rooms.apply(message(offset, ""), "ann") for offset in range(2, 7)]
    assert [note.hidden for note in notes] == [True, True, False, False, False]
    assert [note.is_first_unread for note in notes] == [False, False, True, False, False]


def test_a_place_from_the_server_counts_if_it_is_later() -> None:
    rooms = RoomList([Room("lobby", "e", 3, 3)])
    entered = in_room("lobby", 9, places={"lobby": "e:7", "dev": "x:4", "bad": "no place"})
    assert rooms.apply(entered, "ann").missed == 2
    dev = rooms.get("dev")
    assert dev is not None
    assert (dev.place, dev.watched, rooms.get("bad")) == ("x:4", False, None)


def test_the_next_room_with_activity_is_one_with_a_mention() -> None:
    rooms = followed(*(in_room(name, 0, name) for name in ("a", "b", "c", "lobby")))
    assert rooms.next_active() is None
    rooms.apply(Activity("a", "a", 1), "ann")
    rooms.apply(Activity("c", "c", 1, mention=message(1, "ann")), "ann")
    assert [each.name for each in (rooms.next_active(),) if each] == ["c"]
    rooms.apply(in_room("c", 1, "c"), "ann")
    assert [each.name for each in (rooms.next_active(),) if each] == ["a"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", ["ops", "dev-ops", "shop", "lobby"]),
        ("op", ["ops", "dev-ops", "shop"]),
        ("#OPS", ["ops", "dev-ops"]),
        ("dps", ["dev-ops"]),
        ("x", []),
    ],
)
def test_a_room_is_found_by_some_of_its_letters(typed: str, found: list[str]) -> None:
    assert best_matches(typed, ["ops", "dev-ops", "shop", "lobby"]) == found


def test_the_bar_drops_quiet_rooms_first() -> None:
    rooms = [
        Room("lobby", unread=3),
        Room("ops", unread=2, mentioned=True),
        Room("dev"),
        Room("art"),
    ]
    shown = ["".join(text for _, text in room_bar(rooms, "dev", brevity)) for brevity in range(4)]
    assert shown == [
        "lobby 3  ops 2!  dev  art",
        "lobby 3  ops 2!  dev  +1",
        "ops 2!  dev  +2",
        "dev  +3",
    ]


# The file.


def test_two_clients_keep_places_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "places.sqlite"
    one, two = (Keeper(path, "ws://HOST:2000/lobby?token=x") for _ in range(2))
    one.put_rooms([Room("lobby", "e", 9), Room("ops", "f", 2, watched=False)])
    two.put_rooms([Room("lobby", "e", 7), Room("dev", "g", 1)])
    two.put_word("marked", "Deploy")
    two.put_word("marked", "release")
    one.drop_word("marked", "deploy")
    assert [(room.name, room.place, room.watched) for room in two.rooms()] == [
        ("lobby", "e:9", True),
        ("ops", "f:2", False),
        ("dev", "g:1", True),
    ]
    assert one.words("marked") == ["release"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keeper(path, "ws://other:2000/").rooms() == []


def test_a_file_that_cannot_be_used_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    path.write_text("this is no database, and longer than its header would be " * 10)
    keeper = Keeper(path, "ws://host/")
    told: list[str] = []
    keeper.warn = told.append
    assert keeper.rooms() == []
    keeper.put_word("marked", "x")
    assert [line.partition(": ")[0] for line in told] == ["What you have read cannot be kept"]


# On the screen.


def test_switching_shows_the_topic_and_what_was_missed() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_last(" lobby.*connected.*")
        client.type("/join #Ops\r")
        wait_for(lambda: stage.heard == [Join("ops")])
        stage.tell(in_room("ops", 4, "f", topic="All is well"))
        client.wait_for_line("--- ops: All is well ---")
        wait_for(lambda: stage.heard[1:] == [Watch((WatchedRoom("lobby", "e:0"),))])
        client.wait_for_last(r" lobby  ops \| All is well \| ann.*")
        stage.tell(Topic("Something burns"), Activity("lobby", "e", 2, unread=2))
        client.wait_for_last(r" lobby 2  ops \| Something burns \| .*")
        # Alt+1 goes back to where the user was.
        client.type("\x1b1")
        wait_for(lambda: stage.heard[2:] == [Join("lobby", "e:0")])
        stage.tell(in_room("lobby", 2), history(1, 2))
        client.wait_for_line("bob: message 2")
        wait_for(lambda: stage.heard[3:] == [Watch((WatchedRoom("ops", "f:4"),))])
        shown = client.scrollback()
        assert shown[shown.index("--- lobby ---") :] == [
            "--- lobby ---",
            "-> 2 new messages since your last visit.",
            "--- Last read ---",
            "bob: message 1",
            "bob: message 2",
        ]
        # Alt+A has nowhere to go, and then goes to the room with news.
        client.type("\x1ba")
        client.wait_for_line("-> Nothing new in other rooms.")
        stage.tell(Activity("ops", "f", 5))
        client.wait_for_last(r" lobby  ops 1 .*")
        client.type("\x1ba")
        wait_for(lambda: stage.heard[4:] == [Join("ops", "f:4")])


@pytest.mark.parametrize(
    ("columns", "bar"),
    [
        (100, r" lobby 1  ops 2!  dev \| The long topic of dev \| ann \| 2 here \| connected.*"),
        (74, r" lobby 1  ops 2!  dev \| The lon.*… \| ann \| 2 here \| connected.*"),
        (36, r" lobby 1  ops 2!  dev \| connected"),
        (31, r" ops 2!  dev  \+1 \| connected"),
        (22, r" dev  \+2 \| connected"),
    ],
)
def test_the_bar_suits_the_width(columns: int, bar: str) -> None:
    with Stage() as stage, Screen(stage.url, columns=columns) as client:
        stage.wait_for_client()
        stage.tell(
            in_room("ops", 0, "f"),
            in_room("dev", 0, "g", topic="The long topic of dev"),
            Activity("lobby", "e", 1, unread=1),
            Activity("ops", "f", 2, unread=2, mention=message(2, "ann!")),
        )
        client.wait_for_last(bar)


def test_a_mention_in_another_room_is_shown_and_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VTE_VERSION", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.tell(in_room("ops", 0, "f"))
        client.wait_for_last(r" lobby  ops .*")
        stage.tell(Activity("lobby", "e", 1, mention=message(1, "ann, look\x1b]0;x\x07!")))
        client.wait_for_line(r"\[lobby\] bob: ann, look.*!")
        client.wait_for_last(r" lobby 1!  ops .*")
        assert client.written.count(b"\x07") == 1
        assert b"\x1b]9;syncchat: lobby: bob: ann, look" in client.written
        assert b"\x1b]0;" not in client.written
        client.type("/rooms\r")
        stage.tell(Rooms((RoomCount("lobby", 2), RoomCount("ops", 1))))
        client.wait_for_line(r"-> 2 rooms: lobby \(2, 1 new!\), ops \(1\)")


@pytest.mark.parametrize(
    ("term", "sequence"),
    [("xterm", "\x1b]9;syncchat: 4;x\x1b\\"), ("foot", "\x1b]777;notify;syncchat;4,x\x1b\\")],
)
def test_a_notification_suits_the_terminal(
    term: str, sequence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VTE_VERSION", raising=False)
    monkeypatch.setenv("TERM", term)
    assert notification("4;x") == sequence


def test_a_room_that_one_parts_from_is_no_longer_watched() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_last(" lobby.*connected.*")
        client.type("/part\r")
        client.wait_for_line("-> You follow no other room. /quit leaves the chat.")
        stage.tell(in_room("ops", 0, "f"), in_room("dev", 0, "g"))
        client.wait_for_last(" lobby  ops  dev .*")
        wait_for(lambda: len(stage.heard) == 2)
        client.type("/part lobby\r/part lobby\r")
        client.wait_for_line("-> You do not follow lobby.")
        client.wait_for_last(" ops  dev .*")
        client.type("/part\r")
        asked = [Unwatch(("lobby",)), Unwatch(("dev",)), Join("ops", "f:0")]
        wait_for(lambda: stage.heard[2:] == asked)
        stage.tell(in_room("ops", 0, "f"))
        client.wait_for_last(" ops .*")


def test_a_room_is_chosen_by_a_few_letters() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.tell(in_room("dev-ops", 0, "f"), in_room("art", 0, "g"))
        client.wait_for_last(" lobby  dev-ops  art .*")
        client.type("a draft\x18")
        client.wait_for_line("> /room")
        client.wait_for_last(" lobby  dev-ops")
        client.type("dop")
        client.wait_for_last(" dev-ops")
        client.type("\r")
        wait_for(lambda: stage.heard[-1] == Join("dev-ops", "f:0"))
        client.wait_for_line("> a draft")
        client.type("\x15/room\r")
        client.wait_for_line("-> You follow 1 lobby, 2 dev-ops, 3 art.*")
        client.type("/room zzz\r")
        client.wait_for_line("-> No room is like zzz.*")


def test_a_talk_with_one_person_lasts_until_the_room_is_chosen() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_last(" lobby.*connected.*")
        client.type("/query bob\rpsst\r/me waves\r")
        wait_for(lambda: stage.heard == [Private("bob", "psst")])
        client.wait_for_last(r".* to bob .*")
        client.wait_for_line("-> An action goes to the room.*")
        client.type("/query\raloud\r")
        assert stage.wait_for_said()[0].text == "aloud"


def test_the_places_of_a_person_are_kept_by_the_server() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_last(" lobby.*connected.*")
        stage.tell(in_room("ops", 3, "f", person="ann", places={"ops": "f:1"}))
        client.wait_for_line("-> 2 new messages since your last visit.")
        stage.tell(message(4, "hello"))
        client.wait_for_line("bob: hello")
        client.type("/quit\r")
        assert client.exit_code() == 0
        seen = [event for event in stage.heard if isinstance(event, Seen)]
        assert seen[-1] == Seen("ops", "f:4")


EVIL = "x\x1b]0;y\x07\u202e"


@pytest.mark.parametrize(
    "event",
    [
        in_room("ops", 0, topic=EVIL, motd=EVIL, person=EVIL),
        Activity(EVIL, "e", 1, mention=message(1, EVIL, EVIL)),
        Topic(EVIL, EVIL),
        Motd(EVIL),
        ReadOnly(on=True, by=EVIL),
        Moderated("kick", EVIL, EVIL, EVIL),
        Bans((BanEntry(EVIL, EVIL, 0.0, reason=EVIL, room=EVIL),)),
        Whois(EVIL, 0.0, away=EVIL, rooms=(EVIL,)),
        Done("mute", EVIL),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_in_an_event_controls_the_terminal(event: FromServer) -> None:
    text = str(msgspec.to_builtins(sanitized(event)))
    assert "\\x1b" not in text
    assert "\\x07" not in text
    assert "\\u202e" not in text


def test_the_reason_to_leave_is_told() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_last(" lobby.*connected.*")
        client.type("/quit good night\r")
        assert client.exit_code() == 0
        assert stage.heard == [Leave("good night")]


def test_redactions_and_mutes_are_told() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.say("a secret")
        stage.tell(
            message(2, "1", "op", "redaction"),
            message(3, "", "bob", "redacted"),
            Moderated("mute", "ann", "op", seconds=60.0),
        )
        client.wait_for_line(r" \* op has removed bob's message of .*\.")
        client.wait_for_line(r"bob: \(removed\)")
        client.wait_for_line(r" \* ann was muted by op for 1m")
        client.wait_for_line("-> You cannot speak here meanwhile.*")


def test_what_is_kept_shows_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with Stage(offset=250) as stage:
        url = f"ws://{stage.url}"
        Keeper(path, url).put_rooms([Room("lobby", "e", 10), Room("ops", "f", 1)])
        preferences = Preferences(history=0)
        keeper = Keeper(path, url)
        with Screen(url, history=200, preferences=preferences, keeper=keeper) as client:
            stage.wait_for_client()
            stage.tell(history(51, 250))
            client.wait_for_line("bob: message 250")
            wait_for(lambda: stage.heard == [Watch((WatchedRoom("ops", "f:1"),))])
            client.type("/ignore bob\r/highlight deploy\r")
            client.wait_for_line("-> deploy is marked now.*")
            shown = client.scrollback()
            at = shown.index("--- Last read ---")
            assert shown[at + 1] == "bob: message 51"
            assert any("240 new messages" in line for line in shown[:at])
            assert any("/history 240" in line for line in shown[:at])
        assert Keeper(path, url).words("ignored") == ["bob"]
        with Screen(url, history=200, preferences=preferences, keeper=keeper) as client:
            stage.wait_for_client(2)
            stage.tell(history(51, 250))
            stage.say("hidden", "bob")
            stage.say("we deploy now", "cid")
            client.wait_for_line("cid: we deploy now")
            assert not re.search("message|hidden", "\n".join(client.scrollback()))
            assert any(cell.reverse for cell in client.cells("cid: we deploy now"))
