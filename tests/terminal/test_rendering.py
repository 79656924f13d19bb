"""The output of the terminal client."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from contextlib import ExitStack

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import (
    Ack,
    Action,
    Away,
    Back,
    Error,
    History,
    Joined,
    Left,
    Message,
    Names,
    PrivateMessage,
    Renamed,
    encode,
)
from syncchat.net import WebSocket, serve
from syncchat.terminal import Preferences
from tests.peer import PATIENCE, wait_for
from tests.people import url_of
from tests.processes import Terminal
from tests.screen import Screen
from tests.stage import Stage, welcome


def test_a_continuation_line_is_indented() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send("one\nroot: two")
        list(websocket)

    with serve(handler) as server, Screen(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line("one")
        client.wait_for_line("    root: two")


@pytest.mark.parametrize("subprotocols", [["syncchat.v1"], []], ids=["events", "plain lines"])
def test_continuation_lines_keep_their_indentation_on_the_screen(subprotocols: list[str]) -> None:
    """Issue 13, item 6: messages, errors and lines are indented once."""
    text = "x\n    four\n  two\nnone"

    def handler(websocket: WebSocket) -> None:
        if subprotocols:
            websocket.send(encode(welcome()))
            websocket.send(encode(Message(1, 0.0, "bob", text, "message")))
            websocket.send(encode(Error("unavailable", text)))
        else:
            websocket.send(f"bob: {text}")
            websocket.send(f"-> {text}")
        list(websocket)

    shown = ["        four", "      two", "    none"]
    with serve(handler, subprotocols=subprotocols) as server:
        with Screen(f"ws://127.0.0.1:{server.port}") as client:
            client.wait_for_line("-> x")
            client.wait_for_line(">.*")
            lines = client.scrollback()
            begin = lines.index("bob: x")
            assert lines[begin : begin + 8] == ["bob: x", *shown, "-> x", *shown]


# Appearance.


@pytest.mark.slow
def test_a_flood_is_shown_complete_and_in_order_during_typing(*, full: bool) -> None:
    count = 10_000 if full else 2000
    text = "typed in the middle of it"

    def handler(websocket: WebSocket) -> None:
        websocket.recv()
        for number in range(count):
            websocket.send(f"line {number}")
        list(websocket)

    with (
        serve(handler, max_backlog=64 * 1024 * 1024) as server,
        Screen(f"ws://127.0.0.1:{server.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("go\r")
        client.wait_for_line(r"line \d+")
        for char in text:
            client.type(char)
            client.lines()
        client.wait_for_line(f"> {text}")
        client.wait_for_line(f"line {count - 1}")
        client.wait_for_line(f"> {text}")
        shown = [line for line in client.scrollback() if line.startswith("line")]
        assert shown == [f"line {number}" for number in range(count)]


@pytest.mark.slow
def test_the_prompt_is_on_the_screen_during_a_flood(*, full: bool) -> None:
    """Issue 13, item 12: the prompt is there after every read of the terminal.

    Excepted is a read that ends within a synchronized update (DEC private mode
    2026): the kernel hands out about 4,096 bytes a read, wherever they end, and
    splits what is written while it is read. A terminal that knows the mode
    shows nothing of such a part. Each update has at most 2,048 bytes, where Linux
    splits a write, so that other terminals see parts only where they are slow.
    """
    begin, end = b"\x1b[?2026h", b"\x1b[?2026l"
    rate, lines = (1000, 3000) if full else (500, 750)
    with (
        ChatServer(port=0, rate=0, notices=False) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as client,
    ):
        client.wait_for_last(" lobby .*")

        def flood() -> None:
            started = time.monotonic()
            for number in range(lines):
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
                chat.say(f"line {number} " + "of a flood " * (number % 10))

        noise = threading.Thread(target=flood, name="flood")
        noise.start()
        try:
            looked = 0
            while f"line {lines - 1} ".encode() not in client.written[-8192:]:
                shown = client.read_once()
                if client.written.rfind(begin) > client.written.rfind(end):
                    continue
                looked += 1
                assert ">" in shown, shown
                assert any(line.startswith(" lobby ") for line in shown), shown
        finally:
            noise.join()
        updates = re.findall(re.escape(begin) + b".*?" + re.escape(end), client.written, re.DOTALL)
        # On a busy machine, a read takes long.
        assert looked > 2
        assert len(updates) > 10
        assert max(map(len, updates)) <= 2048


def test_every_event_is_rendered_as_a_line() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.say("hello, all")
        stage.say("two\nlines")
        stage.tell(
            Message(3, 0.0, "bob", "waves", "action"),
            Joined("carl", 3),
            Joined("dora", 5, ("emil",)),
            Left("carl", 2, reason="connection lost"),
            Renamed("dora", "doris"),
            Away("bob", "lunch"),
            Back("bob"),
            PrivateMessage("bob", "ann", "psst", 0.0),
            PrivateMessage("ann", "bob", "yes?", 0.0),
            Names(["ann", "bob"]),
            Error("absent", "fred is not in this room.", "whois"),
        )
        client.wait_for_line("-> fred is not in this room.")
        assert client.scrollback() == [
            "Connected to the chat!",
            "bob: hello, all",
            "bob: two",
            "    lines",
            "** bob waves",
            " * carl joined. (Connected: 3)",
            " * dora and emil joined. (Connected: 5)",
            " * carl left: connection lost. (Connected: 2)",
            " * dora is now known as doris.",
            " * bob is away: lunch",
            " * bob is back.",
            "[PM from bob] psst",
            "-> [Sent PM to bob] yes?",
            "-> 2 connected: ann, bob",
            "-> fred is not in this room.",
        ]


def test_a_long_line_is_wrapped_between_words_and_indented() -> None:
    with Stage() as stage, Screen(stage.url, columns=40, rows=20) as client:
        stage.wait_for_client()
        stage.say("The quick brown fox jumps over the lazy dog and http://host/" + "x" * 60)
        client.wait_for_line(r"bob: The quick brown fox jumps over the")
        client.wait_for_line(r"    lazy dog and http://host/x+")
        # A URL is not wrapped by the client, only by the terminal.
        client.wait_for_line("x+")


def test_a_nick_has_the_same_color_everywhere() -> None:
    with Stage() as stage, Screen(stage.url) as one, Screen(stage.url) as two:
        stage.wait_for_client(2)
        for client in list(stage.clients):
            stage.clients.append(client)
            stage.tell(
                Message(1, 0.0, "bob", "one", "message"),
                Message(2, 0.0, "carl", "two", "message"),
                Message(3, 0.0, "BOB", "acts", "action"),
            )
        for screen in (one, two):
            screen.wait_for_line(r"\*\* BOB acts")
        colours = [
            {cell.fg for cell in screen.cells(text)[start : start + len(nick)]}
            for screen in (one, two)
            for text, start, nick in [
                ("bob: one", 0, "bob"),
                ("carl: two", 0, "carl"),
                ("** BOB", 3, "BOB"),
            ]
        ]
        assert colours[:3] == colours[3:]
        bob, carl, again = colours[:3]
        assert bob == again != carl
        assert len(bob) == len(carl) == 1
        assert "default" not in bob | carl
        assert {cell.fg for cell in one.cells(": one")} == {"default"}


@pytest.mark.parametrize(
    ("color", "no_color", "coloured"),
    [
        ("auto", None, True),
        ("auto", "1", False),
        ("auto", "", True),
        ("never", None, False),
        ("always", "1", True),
    ],
)
def test_colors_follow_the_flag_and_no_color(
    monkeypatch: pytest.MonkeyPatch, color: str, no_color: str | None, *, coloured: bool
) -> None:
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    preferences = Preferences(color=color)
    with Stage() as stage, Screen(stage.url, preferences=preferences) as client:
        stage.wait_for_client()
        stage.say("hello")
        client.wait_for_line("bob: hello")
        assert (b"[0;38;" in client.written) == coloured


def test_times_are_shown_on_request_and_a_line_tells_the_day() -> None:
    now = dt.datetime.now(tz=dt.UTC).astimezone()
    if now.hour == 23 and now.minute >= 58:
        now -= dt.timedelta(minutes=5)
    yesterday = now - dt.timedelta(days=1)
    with Stage(offset=2) as stage, Screen(stage.url, history=2) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/timestamp\r")
        client.wait_for_line(r"\d\d:\d\d -> Timestamps are on\.")
        old = Message(1, yesterday.timestamp(), "bob", "old\nmore", "message")
        new = Message(2, now.timestamp(), "bob", "new", "message")
        stage.tell(History((old, new), complete=True))
        client.wait_for_line(f"{now:%H:%M} bob: new")
        client.type("/timestamp off\r")
        client.wait_for_line("-> Timestamps are off.")
        stage.tell(Message(3, yesterday.timestamp(), "bob", "without", "message"))
        client.wait_for_line("bob: without")
        shown = client.scrollback()
        assert shown[shown.index(f"--- {yesterday:%A, %Y-%m-%d} ---") :] == [
            f"--- {yesterday:%A, %Y-%m-%d} ---",
            f"{yesterday:%H:%M} bob: old",
            "        more",
            f"--- {now:%A, %Y-%m-%d} ---",
            f"{now:%H:%M} bob: new",
            "-> Timestamps are off.",
            "bob: without",
        ]


def test_times_can_be_shown_from_the_start() -> None:
    with Stage() as stage, Screen(stage.url, preferences=Preferences(timestamps=True)) as client:
        stage.wait_for_client()
        stage.tell(Joined("carl", 3))
        client.wait_for_line(r"\d\d:\d\d  \* carl joined\. \(Connected: 3\)")


@pytest.mark.parametrize("echo", [True, False])
def test_own_messages_are_marked_until_the_server_has_them(*, echo: bool) -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("one\r/me acts\r")
        first = stage.wait_for_said()[0]
        wait_for(lambda: any(isinstance(event, Action) for event in stage.heard))
        second = next(event for event in stage.heard if isinstance(event, Action))
        client.wait_for_line("… one")
        client.wait_for_line("… /me acts")
        client.wait_for_last(r".*\| 2 unsent")
        assert not any(line.startswith(("ann: one", "** ann")) for line in client.lines())
        assert first.nonce is not None
        assert second.nonce is not None
        if echo:
            stage.say("one", "ann", nonce=first.nonce)
            stage.tell(Message(2, 0.0, "ann", "acts", "action", second.nonce))
        else:
            stage.tell(Ack(first.nonce, 1, "e"), Ack(second.nonce, 2, "e"))
        client.wait_for_line("ann: one")
        client.wait_for_line(r"\*\* ann acts")
        client.wait_for_last(r"(?!.*unsent).*")
        assert not any("…" in line for line in client.lines())
        assert client.scrollback()[1:] == ["ann: one", "** ann acts"]


def test_of_many_pending_messages_the_last_are_shown() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("".join(f"{number}\r" for number in range(9)))
        client.wait_for_line("… 8")
        waiting = [line for line in client.lines() if line.startswith("…")]
        assert waiting == ["… 6 more", "… 6", "… 7", "… 8"]


def test_a_refused_message_is_shown_with_the_reason() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("my words\r")
        nonce = stage.wait_for_said()[0].nonce
        stage.tell(Error("unavailable", "The disk is full.", "say", nonce))
        client.wait_for_line("-> The disk is full.")
        client.wait_for_line("    ann: my words")
        client.wait_for_last(r"(?!.*unsent).*")


def test_a_gap_is_marked_by_a_line() -> None:
    with Stage() as stage, Screen(stage.url) as client:
        stage.wait_for_client()
        stage.say("one")
        stage.tell(Message(7, 0.0, "bob", "seven", "message"))
        client.wait_for_line("bob: seven")
        assert client.scrollback()[-3:] == [
            "bob: one",
            "-> Some messages are missing here: the server no longer has them.",
            "bob: seven",
        ]


def test_the_toolbar_shows_the_room_the_nick_and_the_connection() -> None:
    with ExitStack() as stack:
        with ChatServer(port=0, notices=True) as chat:
            url = f"127.0.0.1:{chat.port}/ops"
            client = stack.enter_context(Screen(url, nick="ann"))
            client.wait_for_last(r" ops \| ann \| 1 here \| connected \| \d+ ms")
            with Client(f"ws://{url}", nick="bob"):
                client.wait_for_last(r" ops \| ann \| 2 here \| connected \| \d+ ms")
                client.type("/away lunch\r")
                client.wait_for_last(r" ops \| ann \(away\) \| 2 here \| connected \| \d+ ms")
                client.type("/back\r")
            client.wait_for_last(r" ops \| ann \| 1 here \| connected \| \d+ ms")
            with Screen(url, nick="bob", columns=30) as narrow:
                narrow.wait_for_last(r" ops \| bob \| connected")
        client.wait_for_last(r" ops \| ann \| reconnecting (in \d+ s|now)")


@pytest.mark.slow
def test_the_number_of_people_is_right_without_notices() -> None:
    """Issue 13, item 4: the toolbar counts people even if the server sends no notices."""
    with ChatServer(port=0, notices=False) as chat, Client(url_of(chat), nick="eve") as eve:
        with Screen(url_of(chat), nick="ann") as ann:
            ann.wait_for_last(" lobby .*2 here .*")
            with Client(url_of(chat), nick="bob"), Client(url_of(chat), nick="carl"):
                eve.close()
                ann.wait_for_last(" lobby .*3 here .*", PATIENCE * 2)
                # The answer to a request of the client is not shown, that to a user's request is.
                ann.type("/names\r")
                ann.wait_for_line("-> 3 connected: ann, bob, carl")
                assert len([line for line in ann.scrollback() if "connected:" in line]) == 1
                # Nicks can be completed, too.
                ann.type("ca\t!")
                ann.wait_for_line("> carl: !")


def test_the_history_has_a_heading() -> None:
    with ChatServer(port=0) as chat:
        with Client(url_of(chat), nick="bob") as bob:
            bob.say("one")
            bob.say("two")
            bob.flush(PATIENCE)
        with Screen(url_of(chat), history=1) as client:
            client.wait_for_line("bob: two")
            client.type("now\r")
            client.wait_for_line(".*: now")
            shown = client.scrollback()
            at = shown.index("bob: two")
            assert re.fullmatch(r"--- Earlier messages, since .{16} ---", shown[at - 1])
            assert "bob: one" not in shown


def test_a_room_that_is_joined_begins_with_its_last_messages() -> None:
    """Issue 13, item 11: as many as ``--history`` shows on entering, in the same form."""
    with ChatServer(port=0, notices=False, greeting="") as chat:
        for number in range(9):
            chat.say(f"message {number}", room="ops")
        with Screen(f"ws://127.0.0.1:{chat.port}", history=2) as screen:
            screen.wait_for_line(">.*")
            screen.wait_for_last(r".*\blobby\b.*connected.*")
            screen.type("/join ops\r")
            screen.wait_for_line("server: message 8")
            chat.say("live", room="ops")
            screen.wait_for_line("server: live")
            shown = screen.scrollback()
            assert shown[-5] == "--- ops ---"
            assert re.fullmatch("--- Earlier messages, since .* ---", shown[-4])
            assert shown[-3:] == ["server: message 7", "server: message 8", "server: live"]
