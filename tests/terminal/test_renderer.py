"""The renderer: an event and a snapshot in, styled lines out."""

from __future__ import annotations

import pytest

from syncchat.chat.dialects import LineFormat, lines_of
from syncchat.chat.events import (
    Ack,
    Away,
    Back,
    Error,
    FromServer,
    History,
    Joined,
    Left,
    Message,
    Names,
    PrivateMessage,
    Renamed,
    RoomCount,
    Rooms,
    Whois,
)
from syncchat.client import Disconnected, Event, Gap, Line, Reconnected, Sent
from syncchat.terminal.controller import rings
from syncchat.terminal.renderer import render
from syncchat.terminal.snapshot import Bell, Preferences, Snapshot
from tests.stage import welcome

FORM = LineFormat("{sender}: {text}")
HELLO = Message(7, 0.0, "bob", "hello ann", "message", "n7")

EVENTS: list[Event] = [
    welcome(),
    HELLO,
    Ack("n7", 7, "e"),
    PrivateMessage("bob", "ann", "psst", 0.0),
    History((HELLO,), complete=True, command="search"),
    Error("absent", "no such nick", "whois"),
    Joined("cy", 3, ("dan",)),
    Left("cy", 2),
    Renamed("bob", "rob"),
    Away("bob", "lunch"),
    Back("bob"),
    Names(["ann", "bob"]),
    Rooms((RoomCount("lobby", 2),)),
    Whois("bob", 0.0),
    Line("plain"),
    Gap(3, "e"),
    Disconnected(1006, ""),
    Reconnected(),
    Sent("n7"),
]


def snapshot(**changes: object) -> Snapshot:
    fields: dict[str, object] = {
        "own": "ann",
        "preferences": Preferences(),
        "form": FORM,
        "ignored": {},
    }
    return Snapshot(**(fields | changes))  # type: ignore[arg-type]


def lines(event: Event) -> list[str]:
    assert isinstance(event, FromServer | Gap | Disconnected)
    if isinstance(event, Gap | Disconnected):
        return [f"a line for {event}"]
    return lines_of(event, FORM, "ann")


def shown(event: Event, known: Snapshot) -> list[str]:
    return ["".join(text for _, text in each.fragments) for each in render(event, known, lines)]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_rendering_depends_only_on_the_event_and_the_snapshot(event: Event) -> None:
    known = snapshot(answered=HELLO, preferences=Preferences(prefix="| "))
    first = render(event, known, lines)
    assert render(event, known, lines) == first
    assert first or isinstance(event, type(welcome()))


@pytest.mark.parametrize("bell", ["off", "mention", "all"])
@pytest.mark.parametrize(
    ("event", "is_history", "ringing"),
    [
        (HELLO, False, {"mention", "all"}),
        (HELLO, True, set()),
        (Message(8, 0.0, "bob", "hello all", "message"), False, {"all"}),
        (Message(9, 0.0, "ann", "ann says", "message"), False, set()),
        (PrivateMessage("bob", "ann", "psst", 0.0), False, {"mention", "all"}),
        (PrivateMessage("ann", "bob", "psst", 0.0), False, set()),
        (Line("hello ann"), False, {"all"}),
        (Joined("cy", 3), False, set()),
    ],
)
def test_the_bell_rings_as_the_user_prefers(
    bell: Bell, event: Event, *, is_history: bool, ringing: set[Bell]
) -> None:
    known = snapshot(is_history=is_history, preferences=Preferences(bell=bell))
    assert rings(event, known, render(event, known, lines)) == (bell in ringing)


def test_ignored_people_are_not_shown() -> None:
    known = snapshot(ignored={"bob": "Bob"})
    for event in (HELLO, PrivateMessage("BOB", "ann", "psst", 0.0)):
        assert shown(event, known) == []
    past = History((HELLO,), complete=True, command="history")
    assert shown(past, known) == shown(History((), complete=True, command="history"), known)


def test_a_heading_precedes_the_history() -> None:
    heading, message = shown(HELLO, snapshot(is_history=True, heading="Earlier messages"))
    assert heading.startswith("--- Earlier messages, since 19")
    assert message == "bob: hello ann"


def test_an_acknowledged_message_has_no_prefix() -> None:
    known = snapshot(preferences=Preferences(prefix="| "))
    own = Message(7, 0.0, "ann", "mine", "message", "n7")
    assert shown(own, known) == ["| ann: mine"]
    assert shown(Ack("n7", 7, "e"), known) == []
    assert shown(Ack("n7", 7, "e"), snapshot(preferences=known.preferences, answered=own)) == [
        "ann: mine"
    ]
