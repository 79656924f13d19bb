"""The client at a terminal: typing, completion, pasting, the input history."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import DummyCompleter
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from syncchat import ChatServer, Client
from syncchat.chat.events import Joined, Message, RoomCount, Rooms, RoomsRequest
from syncchat.terminal.input_history import open_history
from syncchat.terminal.prompt import Prompt
from tests.peer import PATIENCE, wait_for
from tests.people import url_of
from tests.processes import Terminal
from tests.screen import Screen
from tests.stage import Stage

TAB = "\t"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[Screen]:
    with Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        yield client


@pytest.fixture
def terminal(stage: Stage) -> Iterator[Terminal]:
    """The client at a real pseudo-terminal, whose size can change."""
    with Terminal(stage.url) as terminal:
        stage.wait_for_client()
        terminal.wait_for_line(">.*")
        yield terminal


# Tab.


def test_tab_completes_commands(client: Screen) -> None:
    client.type("/hi" + TAB)
    client.wait_for_line("> /history")
    client.type("\x15/na" + TAB + "x")
    client.wait_for_line("> /names x")
    client.type("\x15/w" + TAB)
    client.wait_for_line("> /whois")
    client.type("\x15/xyz" + TAB + "!")
    client.wait_for_line("> /xyz!")


def test_tab_cycles_through_the_candidates(client: Screen) -> None:
    client.type("/re" + TAB)
    client.wait_for_line("> /reply")
    client.type("\x15/n" + TAB)
    client.wait_for_line("> /nick")
    client.wait_for_last(r" /nick  /names.*")
    client.type(TAB)
    client.wait_for_line("> /names")
    client.type("\x1b[Z")
    client.wait_for_line("> /nick")
    # Further typing accepts the candidate.
    client.type("joe")
    client.wait_for_line("> /nick joe")
    client.wait_for_last(r" lobby .*")


def test_tab_completes_arguments_of_commands(client: Screen) -> None:
    for line, completed in [
        ("/bell m", "/bell mention"),
        ("/timestamp of", "/timestamp off"),
        ("/msg b", "/msg bob"),
        ("/ignore b", "/ignore bob"),
        ("/help his", "/help history"),
        ("/whois B", "/whois bob"),
        ("/me hugs b", "/me hugs bob"),
    ]:
        client.type("\x15" + line + TAB)
        client.wait_for_line("> " + completed)


def test_tab_completes_nicks_the_last_to_speak_first(stage: Stage, client: Screen) -> None:
    stage.tell(Joined("bert", 3), Joined("beate", 4))
    for number, nick in enumerate(["bert", "bob", "beate", "bob"], 1):
        stage.tell(Message(number, 0.0, nick, f"word {number}", "message"))
    client.wait_for_line("bob: word 4")
    client.type("b" + TAB)
    client.wait_for_line("> bob:")
    client.type(TAB)
    client.wait_for_line("> beate:")
    client.type(TAB)
    client.wait_for_line("> bert:")
    client.type(" and B" + TAB + "!")
    client.wait_for_line("> bert:  and bob !")


@pytest.mark.slow
def test_tab_is_fast_in_a_crowd() -> None:
    crowd = [f"user{number:06}" for number in range(50_000)]
    with Stage(members=["ann", *crowd]) as stage, Screen(stage.url) as client:
        client.wait_for_last(r".*\| 50001 here \|.*")
        client.type("u" + TAB)
        client.wait_for_line("> user000000:")
        # Before the first candidate: the typed text, and then the last candidate.
        client.type("\x1b[Z\x1b[Z")
        client.wait_for_line("> user049999:")
        client.type("!")
        client.wait_for_line("> user049999: !")


def test_tab_completes_a_nick_after_an_at_sign(client: Screen) -> None:
    client.type("hey @b" + TAB + "x")
    client.wait_for_line("> hey @bob x")


def test_tab_does_not_offer_ignored_people(client: Screen) -> None:
    client.type("/ignore bob\rb" + TAB + "x")
    client.wait_for_line("> bx")
    client.type("\x15/unignore b" + TAB)
    client.wait_for_line("> /unignore bob")


def test_a_late_list_of_rooms_does_not_complete_other_text(stage: Stage, client: Screen) -> None:
    client.type("/join zz" + TAB)
    wait_for(lambda: stage.heard == [RoomsRequest()])
    client.type("\x15b")
    client.wait_for_line("> b")
    stage.tell(Rooms((RoomCount("zzz", 2),)))
    stage.say("after it")
    client.wait_for_line("bob: after it")
    client.type("x")
    client.wait_for_line("> bx")


def test_tab_completes_rooms_of_the_server(stage: Stage, client: Screen) -> None:
    client.type("/join o" + TAB)
    wait_for(lambda: stage.heard == [RoomsRequest()])
    stage.tell(Rooms((RoomCount("lobby", 2), RoomCount("ops", 3))))
    client.wait_for_line("> /join ops")
    # The list was requested for completion only.
    assert not [line for line in client.scrollback() if "rooms" in line]
    client.type("\x15/rooms\r")
    wait_for(lambda: stage.heard == [RoomsRequest()] * 2)
    stage.tell(Rooms((RoomCount("lobby", 2),)))
    client.wait_for_line(r"-> 1 room: lobby \(2\)")


# The input history.


def test_the_input_history_is_there_in_the_next_run(stage: Stage, tmp_path: Path) -> None:
    kept = tmp_path / "syncchat" / "history"
    with Screen(stage.url, history_file=kept) as first:
        first.wait_for_line(">.*")
        first.type("the first\rthe second\r")
        stage.acknowledge(2)
        first.wait_for_line("ann: the second")
        first.type("\x03")
        assert first.exit_code() == 0
    with Screen(stage.url, history_file=kept) as second:
        second.wait_for_line(">.*")
        second.type("\x1b[A")
        second.wait_for_line("> the second")
        second.type("\x1b[A")
        second.wait_for_line("> the first")
        second.type("\x1b[B\x1b[B")
        second.wait_for_line(">")
        second.type("\x12fir")
        second.wait_for_line("> the first")
        second.type("\r\r")
        second.wait_for_line("… the first")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_the_input_history_contains_no_token(stage: Stage, tmp_path: Path) -> None:
    kept = tmp_path / "history"
    with Screen(stage.url, token="s3cret", history_file=kept) as client:
        client.wait_for_line(">.*")
        client.type(
            "my word is s3cret\rws://host/?token=other\rAuthorization: Bearer x\rharmless\r"
        )
        client.wait_for_line("… harmless")
    assert [line for line in kept.read_text().splitlines() if line.startswith("+")] == ["+harmless"]


def test_an_unwritable_folder_is_reported_only(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "syncchat").write_text("in the way")
    with Screen(stage.url, history_file=tmp_path / "syncchat" / "history") as client:
        client.wait_for_line(r"-> The input history cannot be saved: .*")
        client.type("hello\r")
        client.wait_for_line("… hello")
        client.type("\x1b[A")
        client.wait_for_line("> hello")


def test_a_long_input_history_loses_its_older_half(tmp_path: Path) -> None:
    path = tmp_path / "history"
    told: list[str] = []
    history = open_history(path, None, told.append)
    for number in range(1200):
        history.store_string(f"{number} " + "x" * 1000)
    kept = list(open_history(path, None, told.append).load_history_strings())
    assert path.stat().st_size < 600_000
    assert kept[0].startswith("1199 ")
    assert 500 < len(kept) < 700
    assert all(len(line) > 1000 for line in kept)
    assert told == []


def test_an_input_history_of_one_huge_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("+" + "a" * 3_000_000)
    history = open_history(path, None, print)
    assert list(history.load_history_strings()) == []
    history.store_string("a\udcffb")
    assert list(history.load_history_strings()) == ["a?b"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_is_reported_once() -> None:
    told: list[str] = []
    history = open_history(Path("/dev/full"), None, told.append)
    history.store_string("one")
    history.store_string("two")
    assert len(told) == 1
    assert "No space left on device" in told[0]


# Lines.


def test_alt_enter_begins_a_new_line(stage: Stage, client: Screen) -> None:
    client.type("one\x1b\rtwo")
    client.wait_for_line("> one")
    client.wait_for_line("  two")
    client.type("\r")
    assert stage.wait_for_said()[0].text == "one\ntwo"
    client.wait_for_line("… one two")


PASTE = "\x1b[200~one\r\ntwo\nthree\n\x1b[201~"


def test_a_paste_of_several_lines_needs_confirmation(stage: Stage, client: Screen) -> None:
    client.type(PASTE)
    client.wait_for_line(r"Send these 3 lines as one message\? y sends, n continues editing\.")
    client.wait_for_line("> one")
    assert stage.heard == []
    # A user may press Enter by habit.
    client.type("\r")
    client.type("y")
    assert [said.text for said in stage.wait_for_said()] == ["one\ntwo\nthree"]
    client.wait_for_line(">")


@pytest.mark.parametrize("key", ["n", "\x1b", "!"])
def test_a_paste_can_be_edited(stage: Stage, client: Screen, key: str) -> None:
    client.type(PASTE)
    client.wait_for_line("Send these 3 lines.*")
    client.type(key)
    wait_for(lambda: not any(line.startswith("Send these") for line in client.lines()))
    client.wait_for_line("> one")
    client.type("four")
    client.wait_for_line(".*four")
    assert stage.heard == []
    client.type("\r")
    typed = "!" if key == "!" else ""
    assert stage.wait_for_said()[0].text == f"one\ntwo\nthree\n{typed}four"


def test_a_paste_of_one_line_needs_no_confirmation(stage: Stage, client: Screen) -> None:
    client.type("\x1b[200~just one\n\x1b[201~")
    client.wait_for_line("> just one")
    client.type("\r")
    assert stage.wait_for_said()[0].text == "just one"
    assert "Send these" not in client.written.decode()


def test_a_paste_of_a_thousand_lines_leaves_the_screen_usable(stage: Stage, client: Screen) -> None:
    text = "\n".join(f"pasted {number}" for number in range(1000))
    client.type(f"\x1b[200~{text}\x1b[201~")
    client.wait_for_line("Send these 1000 lines.*")
    stage.say("meanwhile")
    client.wait_for_line("bob: meanwhile")
    client.wait_for_last(" lobby .*")
    client.type("y")
    assert stage.wait_for_said()[0].text == text


# The window.


def test_a_narrower_window_loses_and_duplicates_no_line(stage: Stage, terminal: Terminal) -> None:
    # This emulator cuts long lines off; tmux and others wrap them.
    for number in range(5):
        stage.say(f"line {number}")
    terminal.wait_for_line("bob: line 4")
    text = "a line that is typed and longer than the window is going to be"
    terminal.type(text)
    terminal.wait_for_line(f"> {text}")
    terminal.resize(30, 24)
    wanted = [
        "Connected to the chat!",
        *(f"bob: line {number}" for number in range(5)),
        "> a line that is typed and lon",
        "  ger than the window is going",
        "   to be",
        " lobby | ann | connected",
    ]
    wait_for(lambda: terminal.lines() == wanted)
    terminal.resize(80, 24)
    terminal.wait_for_line(f"> {text}")


def test_a_slow_terminal_loses_no_line(stage: Stage, terminal: Terminal) -> None:
    terminal.tells_cursor = False
    terminal.type("a line that is typed and longer than the window is going to be")
    terminal.wait_for_line("> a line .*")
    terminal.resize(30, 24)
    wait_for(lambda: terminal.lines() and b"\x1b[6n" in terminal.written)
    for number in range(5):
        stage.say(f"line {number}")
    terminal.wait_for_line("bob: line 4")
    # As a terminal would have answered that has wrapped the line into three rows.
    terminal.type("\x1b[3;5R")
    stage.say("line 5")
    terminal.wait_for_line("bob: line 5")
    shown = [line for line in terminal.scrollback() if line.startswith("bob: ")]
    assert shown == [f"bob: line {number}" for number in range(6)]


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((20, 5), marks=pytest.mark.slow),
        (10, 3),
        pytest.param((3, 2), marks=pytest.mark.slow),
        (1, 1),
    ],
)
def test_a_tiny_window_does_no_harm(
    stage: Stage, terminal: Terminal, size: tuple[int, int]
) -> None:
    terminal.type("abc")
    terminal.wait_for_line("> abc")
    terminal.resize(*size)
    stage.say("hello")
    stage.say("/help")
    terminal.type("\r")
    assert stage.wait_for_said()[0].text == "abc"
    terminal.resize(80, 24)
    terminal.wait_for_last(" lobby .*")
    stage.acknowledge()
    terminal.type("\x04")
    assert terminal.exit_code() == 0
    assert "Traceback" not in terminal.written.decode()


# Parts without a process.


def prompted(keys: str) -> tuple[list[str], type[BaseException] | None]:
    """The text entered with these keys, and how the prompt ended."""
    entered: list[str] = []
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        prompt = Prompt(
            output=DummyOutput(),
            depth=None,
            history=InMemoryHistory(),
            completer=DummyCompleter(),
            above=list,
            status=list,
        )
        pipe.send_text(keys)
        try:
            prompt.run(entered.append, lambda _number: None, lambda: None)
        except (EOFError, KeyboardInterrupt) as exc:
            return entered, type(exc)
    return entered, None


@pytest.mark.parametrize(
    ("keys", "entered", "ended"),
    [
        ("one\rtwo\r\x04", ["one", "two"], EOFError),
        ("one\x01\x04\x04x\r\x03", ["xe"], KeyboardInterrupt),
        ("a\x1b\rb\r\x04", ["a\nb"], EOFError),
        ("one\x1b[D\x1b[D!\r\x04", ["o!ne"], EOFError),
        ("\x1b[200~a\nb\x1b[201~y\x04", ["a\nb"], EOFError),
        ("\x1b[200~a\nb\x1b[201~nc\r\x04", ["a\nbc"], EOFError),
        ("\x1b[200~a\nb\x1b[201~\r\ry\x04", ["a\nb"], EOFError),
        ("\x1b[200~a\nb\x1b[201~\x7fyes\r\x04", ["a\nyes"], EOFError),
        ("\x1b[200~a\nb\x1b[201~\x1b\ry\r\x04", ["a\nb\ny"], EOFError),
        ("\x1b[200~a\nb\x1b[201~\x1b[Dy\r\x04", ["a\nyb"], EOFError),
        ("one\r\x12on\x03\x04", ["one"], EOFError),
        ("a\x0fb\r\x04", ["ab"], EOFError),
    ],
)
def test_keys(keys: str, entered: list[str], ended: type[BaseException]) -> None:
    assert prompted(keys) == (entered, ended)


@pytest.mark.parametrize("answer", ["y", "n\r"])
def test_keys_after_a_paste_are_typed_normally(answer: str) -> None:
    """Issue 13, item 7."""
    keys = f"\x1b[200~a\nb\x1b[201~{answer}yes\rno\r\x04"
    assert prompted(keys) == (["a\nb", "yes", "no"], EOFError)


@pytest.mark.parametrize(
    ("keys", "entered"),
    [
        ("half\x03\x03", []),
        ("half\x03whole\r\x03", ["whole"]),
        ("a\x1b\rb\x03c\r\x03", ["c"]),
        ("  \x03\x03", []),
        # It also clears a paste and the question about it.
        ("\x1b[200~a\nb\x1b[201~\x03yes\r\x03", ["yes"]),
    ],
)
def test_ctrl_c_clears_the_input_and_then_leaves(keys: str, entered: list[str]) -> None:
    """Issue 13, item 10."""
    assert prompted(keys) == (entered, KeyboardInterrupt)


def test_up_restores_what_ctrl_c_has_cleared(stage: Stage) -> None:
    """Issue 13, item 10: a cleared message is in the input history."""
    with Screen(stage.url) as client:
        client.wait_for_line("> *")
        client.type("half a message")
        client.wait_for_line("> half a message")
        client.type("\x03")
        client.wait_for_line("> *")
        client.type("\x1b[A")
        client.wait_for_line("> half a message")
        client.type(" and the rest\r")
        assert stage.wait_for_said()[0].text == "half a message and the rest"


def test_a_prompt_that_is_ended_before_it_began_ends() -> None:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        prompt = Prompt(
            output=DummyOutput(),
            depth=None,
            history=InMemoryHistory(),
            completer=DummyCompleter(),
            above=list,
            status=list,
        )
        prompt.end()
        prompt.run(print, print, lambda: None)


def test_fast_typing_arrives_in_order() -> None:
    with ChatServer(port=0, notices=False, rate=0) as chat:
        url = url_of(chat)
        with Client(url, nick="bob") as bob, Screen(url, nick="ann") as ann:
            ann.wait_for_line(">.*")
            ann.type("".join(f"line {number}\r" for number in range(100)))
            heard: list[str] = []
            while len(heard) < 100:
                event = bob.receive(PATIENCE)
                heard += [event.text] if isinstance(event, Message) else []
            assert heard == [f"line {number}" for number in range(100)]
            ann.wait_for_line("ann: line 99")
            assert re.fullmatch(r" lobby .*", ann.wait_for_last(r"(?!.*unsent).*"))
