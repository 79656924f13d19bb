"""The parts of the terminal client that need no terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncchat.chat.commands import COMMANDS, Help, unknown
from syncchat.chat.events import (
    Ack,
    Action,
    Joined,
    Leave,
    Left,
    Message,
    Names,
    Private,
    Renamed,
    RoomCount,
    Rooms,
    RoomsRequest,
    Say,
)
from syncchat.client import Disconnected
from syncchat.errors import NotConnected
from syncchat.terminal.commands import (
    ARGUMENTS,
    Clear,
    Ignore,
    InvalidCommand,
    SetBell,
    Typed,
    help_text,
    parse_typed,
)
from syncchat.terminal.completion import candidates_line
from syncchat.terminal.model import Model
from syncchat.terminal.scrollback import rows_added
from syncchat.terminal.snapshot import Preferences
from syncchat.terminal.style import Fragment, mark, shorten, style_of, width_of, wrap
from tests.stage import welcome


def text_of(fragments: list[Fragment]) -> str:
    return "".join(text for _, text in fragments)


# Wrapping.


@pytest.mark.parametrize(
    ("text", "columns", "wrapped"),
    [
        ("short", 20, "short"),
        ("one two three four", 10, "one two\n  three\n  four"),
        ("exactly ten", 11, "exactly ten"),
        ("one\ntwo", 20, "one\n  two"),
        ("a   b", 20, "a   b"),
        ("tab\tbed", 20, "tab    bed"),
        ("x" * 20, 10, "xxxxxxxxxx\n  xxxxxxxx\n  xx"),
        ("ann: " + "x" * 15, 10, "ann: xxxxx\n  xxxxxxxx\n  xx"),
        ("ann: http://" + "x" * 30, 10, "ann: http://" + "x" * 30),
        ("one\u00a0two\u3000three", 10, "one\u00a0two\n  three"),
        ("漢字漢字漢字", 8, "漢字漢字\n  漢字"),
        ("漢字 漢字 漢字", 10, "漢字 漢字\n  漢字"),
        ("one two", 2, "on\ne \ntw\no"),
        ("  led by blanks", 10, "  led by\n  blanks"),
        ("", 10, ""),
        ("\n\n", 10, "\n  \n  "),
    ],
)
def test_lines_are_wrapped_between_words(text: str, columns: int, wrapped: str) -> None:
    assert text_of(wrap([("", text)], columns, 2)) == wrapped


def test_a_word_of_several_styles_is_one_word() -> None:
    wrapped = wrap([("", "first "), ("bold", "ann"), ("", ": text")], 9, 2)
    assert text_of(wrapped) == "first\n  ann:\n  text"
    assert ("bold", "ann") in wrapped


# A busy machine is sometimes slow.
@settings(deadline=None)
@given(
    st.lists(st.text("ab漢 \n", max_size=30), max_size=5),
    st.integers(1, 40),
    st.integers(0, 8),
)
def test_wrapping_loses_nothing_and_fits(texts: list[str], columns: int, indent: int) -> None:
    wrapped = text_of(wrap([("", text) for text in texts], columns, indent))
    assert "".join(wrapped.split()) == "".join("".join(texts).split())
    if columns > 2 * indent and columns > 1:
        for line in wrapped.split("\n"):
            # Except blanks at its start, which belong to the text.
            assert width_of(line.strip(" ")) <= columns


def test_long_texts_are_shortened() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert shorten("漢字漢字", 6) == "漢字…"


# Mentions.


@pytest.mark.parametrize(
    ("text", "nick", "found"),
    [
        ("ann: hi", "ann", True),
        ("hi ANN!", "ann", True),
        ("hi @ann", "ann", True),
        ("annual", "ann", False),
        ("joann", "ann", False),
        ("ann_b", "ann", False),
        ("STRASSE", "straße", True),
        ("Straße!", "STRASSE", True),
        ("c++ is fine", "c++", True),
        ("anything", "", False),
    ],
)
def test_a_mention_is_a_whole_word_in_upper_or_lower_case(
    text: str, nick: str, *, found: bool
) -> None:
    marked = [piece for style, piece in mark(text, nick) if style == "class:mention"]
    assert bool(marked) == found
    assert "".join(piece for _, piece in mark(text, nick)) == text


def test_search_words_are_marked_at_the_start_of_words() -> None:
    assert list(mark("Große Grüße, groß", "", ["GROSS", "grü"])) == [
        ("class:match", "Große"),
        ("", " "),
        ("class:match", "Grüße"),
        ("", ", "),
        ("class:match", "groß"),
    ]


# A busy machine is sometimes slow.
@settings(deadline=None, max_examples=30)
@given(st.text(max_size=40), st.text(max_size=5), st.lists(st.text(max_size=3), max_size=2))
def test_marking_changes_no_text(text: str, nick: str, words: list[str]) -> None:
    assert "".join(piece for _, piece in mark(text, nick, words)) == text


# People.


def test_completion_lists_the_last_speakers_first() -> None:
    people = Model(Preferences())
    people.apply(welcome(), "ann")
    people.apply(Joined("berta", 4, ("Bea",)), "ann")
    assert people.count == 4
    assert people.nicks_beginning_with("b", "ann") == ["Bea", "berta", "bob"]
    people.apply(Message(1, 0.0, "bob", "x", "message"), "ann")
    people.apply(Message(2, 0.0, "nobody here", "x", "message"), "ann")
    assert people.nicks_beginning_with("B", "ann") == ["bob", "Bea", "berta"]
    people.apply(Renamed("berta", "bibi"), "ann")
    assert people.nicks_beginning_with("b", "ann") == ["bibi", "bob", "Bea"]
    people.apply(Left("bob", 3), "ann")
    assert people.nicks_beginning_with("b", "ann") == ["bibi", "Bea"]
    assert people.nicks_beginning_with("a", "ann") == []
    people.apply(Names(["ann", "bernd", "bibi"]), "ann")
    assert people.nicks_beginning_with("b", "ann") == ["bibi", "bernd"]
    assert people.count == 3


def test_colors_are_stable_and_distinct() -> None:
    assert style_of("ann") == style_of("ANN") == style_of("ann")
    assert len({style_of(f"person{number}") for number in range(200)}) > 15


def luminance(colour: str) -> float:
    """WCAG 2.2: relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("background", ["#000000", "#1e1e1e", "#002b36", "#fdf6e3", "#ffffff"])
def test_colors_are_readable_on_dark_and_light_backgrounds(background: str) -> None:
    for colour in {style_of(f"person{number}") for number in range(500)}:
        one, two = sorted([luminance(colour), luminance(background)])
        assert (two + 0.05) / (one + 0.05) >= 3.0, colour


# Pending messages.


def test_pending_messages_are_shown_until_they_are_answered() -> None:
    model = Model(Preferences())
    shown: list[str] = []
    message = Message(0, 0.0, "ann", "one", "message")
    model.say(lambda: "n1", message, lambda: shown.append("one"))
    model.say(lambda: None, message, lambda: shown.append("two"))
    # The server does not acknowledge a message without a nonce.
    assert shown == ["two"]
    answered = model.apply(Ack("n1", 7, "e"), "ann").answered
    assert answered is not None
    assert answered.text == "one"
    assert answered.offset == 7
    # Only once, whatever the server sends.
    assert model.apply(Ack("n1", 7, "e"), "ann").answered is None
    assert model.apply(Ack("stranger", 8, "e"), "ann").answered is None
    assert model.unanswered == []
    assert [message.text for message in model.pending] == ["one"]
    model.printed("n1")
    assert model.pending == []


def test_a_request_that_fails_waits_for_no_answer() -> None:
    model = Model(Preferences())

    def fail(_request: object) -> None:
        raise NotConnected

    with pytest.raises(NotConnected):
        model.ask(fail, RoomsRequest(), by_user=False)
    rooms = Rooms((RoomCount("ops", 1),))
    assert model.apply(rooms, "ann").shown
    model.ask(lambda _: None, RoomsRequest(), by_user=False)
    model.ask(lambda _: None, RoomsRequest())
    assert [model.apply(rooms, "ann").shown for _ in range(3)] == [False, True, True]
    # After a reconnect, old requests are not answered.
    model.ask(lambda _: None, RoomsRequest(), by_user=False)
    model.apply(Disconnected(1006, ""), "ann")
    assert model.apply(rooms, "ann").shown


# Typed lines.


@pytest.mark.parametrize(
    ("text", "line", "command"),
    [
        ("hello", "hello", Say("hello")),
        ("  hello", "  hello", Say("  hello")),
        ("//x", "//x", Say("/x")),
        ("  //x", "//x", Say("/x")),
        ("/me waves ", "/me waves ", Action("waves")),
        ("  /MSG bob psst", "/MSG bob psst", Private("bob", "psst")),
        ("/Bell ALL", "/Bell ALL", SetBell("ALL")),
        ("/ignore", "/ignore", Ignore("")),
        ("/clear now", "/clear now", Clear()),
        ("/quit", "/quit", Leave()),
        ("/help me", "/help me", Help("me")),
        # Blanks and a slash do not make an unknown command, but wrong arguments do.
        ("  /etc/passwd", "  /etc/passwd", Say("  /etc/passwd")),
        ("  /nick", "/nick", InvalidCommand("Usage: /nick NAME")),
        ("/", "/", InvalidCommand("Unknown command /. /help lists the commands.")),
        (
            "/bel",
            "/bel",
            InvalidCommand("Unknown command /bel. Did you mean /bell? /help lists the commands."),
        ),
    ],
)
def test_a_typed_line_is_parsed_once(text: str, line: str, command: Typed) -> None:
    assert parse_typed(text) == (line, command)


# Help.


def test_help_knows_every_command() -> None:
    assert COMMANDS.keys() < ARGUMENTS.keys()
    text = help_text(200, 50)
    for name in ARGUMENTS:
        assert re.search(rf"/{name}\b", text)
    assert all(len(line) <= 30 for line in help_text(30, 50).splitlines())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("nik", "nick"), ("mgs", "msg"), ("hitsory", "history"), ("hlep", "help"), ("jion", "join"),
        ("whos", "whois"), ("clean", "clear"), ("unignor", "unignore"),
        ("querry", "query"), ("topc", "topic"), ("list", None), ("server", None),
    ],
)  # fmt: skip
def test_only_near_misses_are_suggested(typed: str, meant: str | None) -> None:
    """Issue 13, item 11."""
    suggestion = "" if meant is None else f" Did you mean /{meant}?"
    wanted = f"Unknown command /{typed}.{suggestion} /help lists the commands."
    assert unknown(typed, ARGUMENTS) == wanted


# Toolbar, resizing.


def test_the_chosen_candidate_is_always_visible() -> None:
    names = [f"name{number}" for number in range(50)]
    for chosen in range(50):
        shown = candidates_line(names, chosen, 40)
        assert ("class:candidate.current", f"name{chosen}") in shown
        assert len(text_of(shown)) <= 42


@pytest.mark.parametrize(
    ("widths", "columns", "column", "added"),
    [
        ([10], 40, 10, 0),
        ([68], 40, 28, 1),
        ([68], 40, 39, 0),
        ([80, 68], 40, 28, 2),
        ([40, 68], 40, 28, 1),
        ([80, 10], 40, 10, 1),
        ([100], 30, 10, 3),
    ],
)
def test_rows_of_lines_that_a_terminal_has_wrapped(
    widths: list[int], columns: int, column: int, added: int
) -> None:
    assert rows_added(widths, columns, column) == added
