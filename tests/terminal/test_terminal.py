"""The client at a terminal: what the screen shows."""

from __future__ import annotations

import datetime as dt
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncchat import ChatServer, Client
from syncchat.chat.events import (
    Ack,
    Action,
    Away,
    AwayRequest,
    Back,
    Error,
    History,
    Joined,
    Left,
    Message,
    Names,
    Private,
    PrivateMessage,
    Renamed,
    encode,
)
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, wait_for
from tests.people import line
from tests.processes import SERVER, Script, ServerScript, Terminal
from tests.stage import Stage, welcome

GREETING = "Welcome to chat! Type a message"


def test_two_people_talk() -> None:
    with (
        ChatServer(port=0) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as anna,
        Terminal(f"ws://127.0.0.1:{chat.port}") as bert,
    ):
        for screen in (anna, bert):
            screen.wait_for_line(re.escape(GREETING))
            screen.wait_for_line(">.*")
        anna.type("hallo, grüß dich\r")
        for screen in (anna, bert):
            screen.wait_for_line(r"127\.0\.0\.1:\d+: hallo, grüß dich")
        bert.type("ebenso\r")
        for screen in (anna, bert):
            screen.wait_for_line(r"127\.0\.0\.1:\d+: ebenso")
        for screen in (anna, bert):
            # One's own line stands there once, as the server has it.
            said = [line for line in screen.lines() if "hallo" in line or "ebenso" in line]
            assert [line.partition(": ")[2] for line in said] == ["hallo, grüß dich", "ebenso"]


def test_what_is_being_typed_is_never_torn() -> None:
    with (
        ChatServer(port=0) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("half a sent")
        client.wait_for_line("> half a sent")
        for number in range(200):
            chat.say(f"message {number}")
        client.wait_for_line("server: message 199")
        client.wait_for_line("> half a sent")
        assert client.lines()[-2] == "> half a sent"
        # Every line of the flood is whole, and the input stands in none of them.
        flood = client.scrollback()
        assert flood == [
            "Connected to the chat!",
            GREETING,
            *(f"server: message {number}" for number in range(200)),
        ]
        client.type("ence\r")
        client.wait_for_line(r"127\.0\.0\.1:\d+: half a sentence")


def test_typing_goes_on_while_messages_come() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    stop = threading.Event()
    with ChatServer(port=0) as chat, Terminal(f"ws://127.0.0.1:{chat.port}") as client:
        client.wait_for_line(">.*")

        def flood() -> None:
            number = 0
            while not stop.wait(0.005):
                number += 1
                chat.say(f"noise {number}")

        noise = threading.Thread(target=flood)
        noise.start()
        try:
            for char in text:
                client.type(char)
                client.lines()
            client.wait_for_line("> " + text)
            client.type("\r")
            client.wait_for_line(rf"127\.0\.0\.1:\d+: {text}")
        finally:
            stop.set()
            noise.join()


def test_the_window_can_be_resized() -> None:
    with (
        ChatServer(port=0) as chat,
        Terminal(f"ws://127.0.0.1:{chat.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("abc")
        client.wait_for_line("> abc")
        client.resize(40, 10)
        chat.say("narrow")
        client.wait_for_line("server: narrow")
        client.wait_for_line("> abc")
        client.type("d\r")
        client.wait_for_line(r"127\.0\.0\.1:\d+: abcd")


def test_a_continuation_line_is_set_in() -> None:
    def handler(websocket: WebSocket) -> None:
        websocket.send("one\nroot: two")
        list(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line("one")
        client.wait_for_line("    root: two")


@pytest.mark.parametrize("subprotocols", [["syncchat.v1"], []], ids=["events", "plain lines"])
def test_continuation_lines_keep_their_indentation_on_the_screen(subprotocols: list[str]) -> None:
    """Issue 13, item 6: what a message, an error or a line holds is set in once."""
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
        with Terminal(f"ws://127.0.0.1:{server.port}") as client:
            client.wait_for_line("-> x")
            client.wait_for_line(">.*")
            lines = client.scrollback()
            begin = lines.index("bob: x")
            assert lines[begin : begin + 8] == ["bob: x", *shown, "-> x", *shown]


def test_keys_that_are_no_utf8_do_no_harm() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type_bytes(b"a\xff\xfeb\r")
        client.wait_for_line("> a.*b")
        client.type("\x04")
        assert client.exit_code() == 0
    assert heard == ["a??b"]


def test_leaving_is_a_proper_close() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server:
        for keys in ("\x03", "\x04", "/quit\r", "typed\x03\x03"):
            with Terminal(f"ws://127.0.0.1:{server.port}") as client:
                client.wait_for_line(">.*")
                client.type(keys)
                assert client.exit_code() == 0
                assert "Traceback" not in client.written.decode()
        wait_for(lambda: len(codes) == 4)
    assert codes == [1000] * 4


def test_a_typed_line_stands_before_its_echo_on_a_server_of_another_make() -> None:
    """Issue 13, item 3: also a line that begins with a slash, and always in this order."""

    def echo(websocket: WebSocket) -> None:
        websocket.send("hello")
        for message in websocket:
            assert isinstance(message, str)
            websocket.send(f"echo of {message}")

    said = [f"{'/' * (number % 2)}line {number}" for number in range(20)]
    with serve(echo) as server, Terminal(f"ws://127.0.0.1:{server.port}", rows=60) as client:
        client.wait_for_line("hello")
        for text in said:
            client.type(f"{text}\r")
            client.wait_for_line(f"echo of {text}")
        shown = client.lines()
        begin = shown.index("hello") + 1
        wanted = [f"{mark}{text}" for text in said for mark in ("> ", "echo of ")]
        assert shown[begin : begin + len(wanted)] == wanted


def test_ones_own_message_has_no_prefix_where_the_server_only_acknowledges_it() -> None:
    """Issue 13, item 3: the prefix marks what the server has sent."""
    with ChatServer(port=0, notices=False, greeting="", echo=False) as chat:
        url = f"ws://127.0.0.1:{chat.port}"
        with Terminal(url, "--nick", "ann", "--prefix", "From server: ") as client:
            client.wait_for_last(".*connected.*")
            client.type("mine\r")
            client.wait_for_line("ann: mine")
            chat.say("yours")
            client.wait_for_line("From server: server: yours")


def test_an_empty_line_is_not_sent() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        heard.extend(websocket)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type("\r\rx\r\x04")
        assert client.exit_code() == 0
    assert heard == ["x"]


def test_a_server_that_ends_it_in_order_is_exit_code_0() -> None:
    with (
        serve(lambda websocket: websocket.send("bye")) as server,
        Terminal(f"ws://127.0.0.1:{server.port}") as client,
    ):
        assert client.exit_code() == 0
        client.wait_for_line("bye")
        client.wait_for_line(r"The server has closed the connection\.")


def test_a_line_after_a_break_is_shown_and_one_during_it_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]

    def handler(websocket: WebSocket) -> None:
        for message in websocket:
            websocket.send(f"you said {message!s}")

    with ExitStack() as stack:
        with serve(handler, port=port):
            client = stack.enter_context(Terminal(f"ws://127.0.0.1:{port}"))
            client.type("one\r")
            client.wait_for_line("you said one")
        client.wait_for_line("The server is gone: .*")
        client.type("two\r")
        client.wait_for_line(r"-> Not sent: two \(there is no connection at the moment\)")
        with serve(handler, port=port) as again:
            wait_for(lambda: again.connections)
            client.wait_for_line("Connected to the chat again!")
            client.type("three\r")
            client.wait_for_line("you said three")


def test_what_was_typed_and_not_delivered_is_told_on_leaving() -> None:
    with ExitStack() as stack:
        with ChatServer(port=0) as chat:
            client = stack.enter_context(Terminal(f"ws://127.0.0.1:{chat.port}"))
            client.type("delivered\r")
            client.wait_for_line(r"127\.0\.0\.1:\d+: delivered")
            client.type("/join ops\r")
            client.wait_for_line("-> You are in ops now.")
        client.wait_for_line("The server is gone: .*")
        client.type("not delivered\r   \r")
        client.wait_for_line("… not delivered")
        client.wait_for_last(r" ops \| .* \| coming back (in \d+ s|now) \| 1 unsent")
        client.type("\x04")
        assert client.exit_code() == 1
        client.wait_for_line("Not delivered: 1 of your messages.")
        client.wait_for_line("    not delivered")


def test_what_was_typed_last_is_delivered_before_one_leaves() -> None:
    with ChatServer(port=0, notices=False) as chat:
        with Terminal(f"ws://127.0.0.1:{chat.port}") as client:
            client.wait_for_line(">.*")
            client.type("last words\r\x04")
            assert client.exit_code() == 0
        with Client(f"ws://127.0.0.1:{chat.port}", history=1) as late:
            assert line(late) == GREETING
            assert line(late).endswith(": last words")


# How things look.


def test_a_flood_is_shown_whole_and_in_order_while_one_types() -> None:
    text = "typed in the middle of it"

    def handler(websocket: WebSocket) -> None:
        websocket.recv()
        for number in range(10_000):
            websocket.send(f"line {number}")
        list(websocket)

    with (
        serve(handler, max_backlog=64 * 1024 * 1024) as server,
        Terminal(f"ws://127.0.0.1:{server.port}") as client,
    ):
        client.wait_for_line(">.*")
        client.type("go\r")
        client.wait_for_line(r"line \d+")
        for char in text:
            client.type(char)
            client.lines()
        client.wait_for_line(f"> {text}")
        client.wait_for_line("line 9999")
        client.wait_for_line(f"> {text}")
        shown = [line for line in client.scrollback() if line.startswith("line")]
        assert shown == [f"line {number}" for number in range(10_000)]


def test_the_prompt_is_on_the_screen_during_a_flood() -> None:
    """Issue 13, item 12: the prompt is there after every read of the terminal.

    Excepted is a read that ends within a synchronized update (DEC private mode
    2026): the kernel hands out about 4,096 bytes a read, wherever they end, and
    splits what is written while it is read. A terminal that knows the mode
    shows nothing of such a part. Each update has at most 2,048 bytes, where Linux
    splits a write, so that other terminals see parts only where they are slow.
    """
    begin, end = b"\x1b[?2026h", b"\x1b[?2026l"
    rate, lines = 1000, 3000
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
        assert looked > 40
        assert len(updates) > 40
        assert max(map(len, updates)) <= 2048


def test_everything_is_rendered_as_people_know_it() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
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
            Error("absent", "There is no fred here.", "whois"),
        )
        client.wait_for_line("-> There is no fred here.")
        assert client.scrollback() == [
            "Connected to the chat!",
            "bob: hello, all",
            "bob: two",
            "    lines",
            "** bob waves",
            " * carl joined. (Connected: 3)",
            " * dora and emil joined. (Connected: 5)",
            " * carl left. (Connected: 2)",
            " * dora is now known as doris.",
            " * bob is away: lunch",
            " * bob is back.",
            "[PM from bob] psst",
            "-> [Sent PM to bob] yes?",
            "-> 2 connected: ann, bob",
            "-> There is no fred here.",
        ]


def test_a_long_line_is_broken_between_words_and_set_in() -> None:
    with Stage() as stage, Terminal(stage.url, columns=40, rows=20) as client:
        stage.wait_for_client()
        stage.say("The quick brown fox jumps over the lazy dog and http://host/" + "x" * 60)
        client.wait_for_line(r"bob: The quick brown fox jumps over the")
        client.wait_for_line(r"    lazy dog and http://host/x+")
        # An address stays in one piece, as far as the terminal is concerned.
        client.wait_for_line("x+")


def test_a_nick_has_a_colour_of_its_own_everywhere() -> None:
    with Stage() as stage, Terminal(stage.url) as one, Terminal(stage.url) as two:
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
    ("flags", "changes", "coloured"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        ((), {"NO_COLOR": ""}, True),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
        ((), {"SYNCCHAT_COLOR": "never"}, False),
    ],
)
def test_whether_there_are_colours(
    flags: tuple[str, ...], changes: dict[str, str], *, coloured: bool
) -> None:
    with Stage() as stage, Terminal(stage.url, *flags, changes=changes) as client:
        stage.wait_for_client()
        stage.say("hello")
        client.wait_for_line("bob: hello")
        assert (b"[0;38;" in client.written) == coloured


def test_times_are_shown_on_request_and_a_line_tells_the_day() -> None:
    now = dt.datetime.now(tz=dt.UTC).astimezone()
    if now.hour == 23 and now.minute >= 58:
        now -= dt.timedelta(minutes=5)
    yesterday = now - dt.timedelta(days=1)
    with Stage(offset=2) as stage, Terminal(stage.url, "--history", "2") as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/timestamp\r")
        client.wait_for_line(r"\d\d:\d\d -> Times are on\.")
        old = Message(1, yesterday.timestamp(), "bob", "old\nmore", "message")
        new = Message(2, now.timestamp(), "bob", "new", "message")
        stage.tell(History((old, new), complete=True))
        client.wait_for_line(f"{now:%H:%M} bob: new")
        client.type("/timestamp off\r")
        client.wait_for_line("-> Times are off.")
        stage.tell(Message(3, yesterday.timestamp(), "bob", "without", "message"))
        client.wait_for_line("bob: without")
        shown = client.scrollback()
        assert shown[shown.index(f"--- {yesterday:%A, %Y-%m-%d} ---") :] == [
            f"--- {yesterday:%A, %Y-%m-%d} ---",
            f"{yesterday:%H:%M} bob: old",
            "        more",
            f"--- {now:%A, %Y-%m-%d} ---",
            f"{now:%H:%M} bob: new",
            "-> Times are off.",
            "bob: without",
        ]


def test_times_can_be_on_from_the_beginning() -> None:
    with Stage() as stage, Terminal(stage.url, "--timestamps") as client:
        stage.wait_for_client()
        stage.tell(Joined("carl", 3))
        client.wait_for_line(r"\d\d:\d\d  \* carl joined\. \(Connected: 3\)")


@pytest.mark.parametrize("echo", [True, False])
def test_own_messages_are_marked_until_the_server_has_them(*, echo: bool) -> None:
    with Stage() as stage, Terminal(stage.url) as client:
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
            stage.tell(Ack(first.nonce, 1), Ack(second.nonce, 2))
        client.wait_for_line("ann: one")
        client.wait_for_line(r"\*\* ann acts")
        client.wait_for_last(r"(?!.*unsent).*")
        assert not any("…" in line for line in client.lines())
        assert client.scrollback()[1:] == ["ann: one", "** ann acts"]


def test_of_many_that_wait_the_last_are_shown() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("".join(f"{number}\r" for number in range(9)))
        client.wait_for_line("… 8")
        waiting = [line for line in client.lines() if line.startswith("…")]
        assert waiting == ["… 6 more", "… 6", "… 7", "… 8"]


def test_what_the_server_refuses_is_shown_with_the_reason() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("my words\r")
        nonce = stage.wait_for_said()[0].nonce
        stage.tell(Error("unavailable", "The disk is full.", "say", nonce))
        client.wait_for_line("-> The disk is full.")
        client.wait_for_line("    ann: my words")
        client.wait_for_last(r"(?!.*unsent).*")


def test_a_line_says_where_a_gap_is() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        stage.say("one")
        stage.tell(Message(7, 0.0, "bob", "seven", "message"))
        client.wait_for_line("bob: seven")
        assert client.scrollback()[-3:] == [
            "bob: one",
            "-> Some messages are missing here: the server has them no more.",
            "bob: seven",
        ]


def test_the_toolbar_tells_where_one_is_and_how_it_is() -> None:
    with ExitStack() as stack:
        with ChatServer(port=0, notices=True) as chat:
            url = f"127.0.0.1:{chat.port}/ops"
            client = stack.enter_context(Terminal(url, "--nick", "ann"))
            client.wait_for_last(r" ops \| ann \| 1 here \| connected \| \d+ ms")
            with Client(f"ws://{url}", nick="bob"):
                client.wait_for_last(r" ops \| ann \| 2 here \| connected \| \d+ ms")
                client.type("/away lunch\r")
                client.wait_for_last(r" ops \| ann \(away\) \| 2 here \| connected \| \d+ ms")
                client.type("/back\r")
            client.wait_for_last(r" ops \| ann \| 1 here \| connected \| \d+ ms")
            client.resize(30, 24)
            client.wait_for_last(r" ops \| ann \| connected")
            client.resize(80, 24)
        client.wait_for_last(r" ops \| ann \| coming back (in \d+ s|now)")


@pytest.mark.slow
def test_the_number_of_people_is_right_without_notices() -> None:
    """Issue 13, item 4: the toolbar counts people also where the server sends no notices."""
    with ServerScript("--no-notices") as server, Client(server.url, nick="eve") as eve:
        with Terminal(server.url, "--nick", "ann") as ann:
            ann.wait_for_last(" lobby .*2 here .*")
            with Client(server.url, nick="bob"), Client(server.url, nick="carl"):
                eve.close()
                ann.wait_for_last(" lobby .*3 here .*", PATIENCE * 2)
                # The client's own question is not answered on the screen, a person's is.
                ann.type("/names\r")
                ann.wait_for_line("-> 3 connected: ann, bob, carl")
                assert len([line for line in ann.scrollback() if "connected:" in line]) == 1
                # Also nicks can be completed.
                ann.type("ca\t!")
                ann.wait_for_line("> carl: !")


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_told_of() -> None:
    with ServerScript() as server, Terminal(server.url, "--nick", "ann") as client:
        client.wait_for_last(r".*\| connected \| \d+ ms")
        server.signal(signal.SIGSTOP)
        try:
            client.wait_for_last(r" lobby \| ann \| 1 here \| no answer for \d+ s", 30)
        finally:
            server.signal(signal.SIGCONT)
        client.wait_for_last(r".*\| connected \| \d+ ms")


def test_the_server_is_killed_and_started_again(tmp_path: Path) -> None:
    engine = f"sqlite:{tmp_path / 'chat.db'}"
    with ExitStack() as stack:
        with ServerScript("--engine", engine) as server:
            client = stack.enter_context(Terminal(server.url, "--nick", "ann"))
            client.type("before\r")
            client.wait_for_line("ann: before")
            client.type("half a thought")
            client.wait_for_line("> half a thought")
            server.signal(signal.SIGKILL)
            server.exit_code()
        client.wait_for_line(r"The server is gone: .*")
        client.wait_for_line("> half a thought")
        client.type(", finished\r")
        client.wait_for_line("… half a thought, finished")
        again = stack.enter_context(
            Script([*SERVER, "--port", str(server.port), "--engine", engine, "--rate", "0"])
        )
        again.wait_for_line(r"listening .*")
        with Client(server.url, nick="bob") as bob:
            bob.say("while ann was away")
            bob.flush(PATIENCE)
            client.wait_for_line("ann: half a thought, finished")
            client.wait_for_line("bob: while ann was away")
        client.wait_for_line("Connected to the chat again!")
        client.wait_for_last(r" lobby \| ann \| \d here \| connected.*")
        said = [line for line in client.scrollback() if line.startswith(("ann: ", "bob: "))]
        assert sorted(said) == [
            "ann: before",
            "ann: half a thought, finished",
            "bob: while ann was away",
        ]


def test_who_is_away_stays_away_over_a_break() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/away lunch\r")
        wait_for(lambda: stage.heard == [AwayRequest("lunch")])
        stage.tell(Away("ann", "lunch"))
        client.wait_for_last(r".*ann \(away\).*")
        stage.close(1012, "restart")
        stage.wait_for_client(2)
        wait_for(lambda: stage.heard == [AwayRequest("lunch")] * 2)


def test_the_past_is_announced() -> None:
    with ServerScript() as server:
        with Client(server.url, nick="bob") as bob:
            bob.say("one")
            bob.say("two")
            bob.flush(PATIENCE)
        with Terminal(server.url, "--history", "1") as client:
            client.wait_for_line("bob: two")
            client.type("now\r")
            client.wait_for_line(".*: now")
            shown = client.scrollback()
            at = shown.index("bob: two")
            assert re.fullmatch(r"--- What was said before, since .{16} ---", shown[at - 1])
            assert "bob: one" not in shown


# Commands.


def test_a_mention_stands_out_and_rings() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")

        def rings(text: str, nick: str = "bob") -> bool:
            before = client.written.count(b"\x07")
            stage.say(text, nick)
            stage.say(f"after {text}", "ann")
            client.wait_for_line(re.escape(f"ann: after {text}"))
            return client.written.count(b"\x07") > before

        assert rings("well, Ann?")
        assert all(cell.reverse for cell in client.cells("well, Ann?")[6:9])
        assert not any(cell.reverse for cell in client.cells("well, Ann?")[:6])
        assert not rings("annual planning")
        assert not rings("nothing")
        assert not rings("ann says ann", "ann")
        client.type("/bell all\r")
        client.wait_for_line("-> The bell is all.")
        assert rings("anything")
        assert not rings("my own", "ann")
        client.type("/bell off\r")
        client.wait_for_line("-> The bell is off.")
        assert not rings("hey ann")
        client.type("/bell loud\r")
        client.wait_for_line(r"-> Write it as /bell off\|mention\|all")
        client.type("/bell mention\r/bell\r")
        client.wait_for_line("-> The bell is mention.")
        stage.tell(PrivateMessage("bob", "ann", "psst", 0.0))
        client.wait_for_line(r"\[PM from bob\] psst")
        stage.tell(Names(["ann", "bob"]))
        client.wait_for_line("-> 2 connected.*")
        assert client.written.endswith(b"\x07") or client.written.count(b"\x07") == 3


def test_who_is_ignored_is_not_heard_whatever_it_is_called() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/ignore BOB\r")
        client.wait_for_line("-> You do not hear BOB any more.*")
        stage.say("one")
        stage.tell(PrivateMessage("bob", "ann", "psst", 0.0), Renamed("bob", "rob"))
        stage.say("two", "rob")
        client.wait_for_line(r" \* bob is now known as rob\.")
        client.type("/ignore\r")
        client.wait_for_line("-> You ignore rob.")
        client.type("/unignore rob\r/unignore rob\r/unignore\r/ignore\r")
        client.wait_for_line("-> You hear rob again.")
        client.wait_for_line("-> You do not ignore rob.")
        client.wait_for_line("-> Write it as /unignore NAME")
        client.wait_for_line("-> You ignore nobody.")
        stage.say("three", "rob")
        client.wait_for_line("rob: three")
        shown = client.scrollback()
        assert not [line for line in shown if "one" in line or "psst" in line or "two" in line]


def test_a_reply_goes_to_whom_one_has_seen() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        stage.say("I am here", nick="mal")
        client.wait_for_line("mal: I am here")
        client.type("/ignore mal\r")
        client.wait_for_line("-> You do not hear mal .*")
        stage.tell(
            PrivateMessage("bob", "ann", "one", 0.0),
            PrivateMessage("mal", "ann", "two", 0.0),
            History((Message(1, 0.0, "mal", "old", "message"),), complete=True, command="history"),
        )
        client.wait_for_line("-> Nothing was found.")
        client.type("/reply for bob only\r")
        wait_for(lambda: stage.heard == [Private("bob", "for bob only")])


def test_a_command_behind_a_blank_is_not_said_to_all() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("  /msg @bob: secret\r")
        wait_for(lambda: stage.heard == [Private("bob", "secret")])


def test_a_server_that_has_begun_anew_says_so() -> None:
    with ExitStack() as stack:
        with ServerScript() as server:
            client = stack.enter_context(Terminal(server.url, "--nick", "ann"))
            client.type("before\r")
            client.wait_for_line("ann: before")
        again = stack.enter_context(Script([*SERVER, "--port", str(server.port)]))
        again.wait_for_line("listening .*")
        client.wait_for_line(r"-> The server has begun anew: .*")
        client.type("after\r")
        client.wait_for_line("ann: after")


def test_the_matches_of_a_search_are_shown() -> None:
    with ServerScript("--no-notices") as server, Terminal(server.url, "--nick", "ann") as client:
        client.type("breakfast at nine\rlunch at noon\r")
        client.wait_for_line("ann: lunch at noon")
        client.type("/search BREAK\r")
        client.wait_for_line(r"-> \[.{16}\] ann: breakfast at nine")
        found = client.cells("] ann: breakfast at nine")
        assert [cell.underscore for cell in found] == [False] * 7 + [True] * 9 + [False] * 8
        client.type("/search dinner\r")
        client.wait_for_line(r"-> Nothing was found\.")
        client.type("/history 1\r")
        client.wait_for_line(r"-> \[.{16}\] ann: lunch at noon")


def test_the_other_commands_answer() -> None:
    with ServerScript("--no-notices") as server, Terminal(server.url, "--nick", "ann") as client:
        with Client(server.url, nick="bob") as bob:
            client.wait_for_line(">.*")
            for line, answer in [
                ("/names", "-> 2 connected: ann, bob"),
                ("/whois bob", "-> bob is here since .*"),
                ("/rooms", r"-> 1 room: lobby \(2\)"),
                ("/me waves", r"\*\* ann waves"),
                ("//slash", "ann: /slash"),
                ("/msg bob psst", r"-> \[Sent PM to bob\] psst"),
                ("/reply x", r"-> Nobody has said anything to you alone\."),
                ("/HELP me", "-> /me TEXT: do something"),
                ("/help nothing", "-> There is no command /nothing.*"),
                ("/timestmap", r"-> There is no command /timestmap\. Did you mean /timestamp\?.*"),
                ("/timestamp x", r"-> Write it as /timestamp \[on\|off\]"),
                ("/msg bob", "-> Write it as /msg NAME TEXT"),
                ("/nick anna", r" \* ann is now known as anna\."),
                ("/join ops", r"-> You are in ops now\."),
            ]:
                client.type(f"{line}\r")
                client.wait_for_line(answer)
            client.wait_for_last(r" ops \| anna \| 1 here \| connected.*")
            bob.join("ops")
            bob.ask(Private("anna", "hello"))
            client.wait_for_line(r"\[PM from bob\] hello")
            client.type("/reply hi\r")
            client.wait_for_line(r"-> \[Sent PM to bob\] hi")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 24), (40, 24), (40, 12), (80, 10)])
def test_help_fits_the_screen(columns: int, rows: int) -> None:
    with Stage() as stage, Terminal(stage.url, columns=columns, rows=rows) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("/help\r")
        client.wait_for_line("-> Commands:")
        shown = client.lines()
        assert shown[-2] == ">"
        told = " ".join(shown[shown.index("-> Commands:") :])
        for name in ("/nick", "/msg", "/search", "/bell", "/unignore", "/quit"):
            assert name in told
        if columns < 80:
            return
        assert all(len(line) < columns for line in shown)


def test_clear_leaves_an_empty_screen_and_the_prompt() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        stage.say("hello")
        client.wait_for_line("bob: hello")
        client.type("/clear\r")
        stage.say("later")
        client.wait_for_line("bob: later")
        assert client.lines()[:2] == ["bob: later", ">"]
        client.type("half\x0c")
        wait_for(lambda: client.lines()[:1] == ["> half"])


def test_a_server_of_another_make_gets_its_own_commands() -> None:
    heard: list[object] = []

    def handler(websocket: WebSocket) -> None:
        for message in websocket:
            heard.append(message)
            websocket.send(f"you said {message!s}")

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.type("/roll 2d6\rhello\r/bell\r")
        client.wait_for_line("-> The bell is mention.")
        client.wait_for_line("you said /roll 2d6")
        client.wait_for_line("> hello")
        client.wait_for_line("you said hello")
        client.type("/quit\r")
        assert client.exit_code() == 0
    assert heard == ["/roll 2d6", "hello"]


# Leaving.


def test_who_leaves_waits_for_no_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with ExitStack() as stack:
        with ServerScript("--port", str(port)) as server:
            client = stack.enter_context(Terminal(server.url, "--nick", "ann"))
            client.wait_for_line(">.*")
        client.type("never delivered\r")
        client.wait_for_line("… never delivered")
        # It is let in, and told nothing.
        mute = stack.enter_context(socket.create_server(("127.0.0.1", server.port)))
        mute.settimeout(PATIENCE)
        connection, _ = mute.accept()
        with connection:
            begin = time.monotonic()
            client.type("\x04")
            assert client.exit_code() == 1
            # The attempt would have taken ten seconds.
            assert time.monotonic() - begin < 5
        client.wait_for_line("Not delivered: 1 of your messages.")
        client.wait_for_line("    never delivered")


def test_who_does_not_wait_for_the_goodbye_is_told_what_was_not_delivered() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("not answered\r")
        client.wait_for_line("… not answered")
        client.type("\x04")
        wait_for(lambda: not any(line.startswith(">") for line in client.lines()))
        client.signal(signal.SIGINT)
        assert client.exit_code() == 1
        client.wait_for_line("Not delivered: 1 of your messages.")


def test_why_it_ended_is_told_before_what_was_not_delivered() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("one\rhalf")
        client.wait_for_line("… one")
        client.wait_for_line("> half")
        stage.close(1008, "not here")
        assert client.exit_code() == 1
        assert client.lines()[-4:] == [
            "The server has closed the connection, 1008 (policy violation): not here",
            "Not delivered: 1 of your messages.",
            "    one",
            "Not sent: half",
        ]


def test_what_is_typed_when_the_server_ends_it_is_not_lost() -> None:
    with Stage() as stage, Terminal(stage.url) as client:
        stage.wait_for_client()
        client.wait_for_line(">.*")
        client.type("half a thought")
        client.wait_for_line("> half a thought")
        stage.close(1008, "not here")
        assert client.exit_code() == 1
        client.wait_for_line("The server has closed the connection, 1008 .*: not here")
        client.wait_for_line("Not sent: half a thought")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.signal(number)
        assert client.exit_code() == 0
        wait_for(lambda: codes)
        assert "Traceback" not in client.written.decode()
    assert codes == [1000]


def test_a_terminal_that_is_closed_ends_it() -> None:
    codes: list[int | None] = []

    def handler(websocket: WebSocket) -> None:
        list(websocket)
        codes.append(websocket.close_code)

    with serve(handler) as server, Terminal(f"ws://127.0.0.1:{server.port}") as client:
        client.wait_for_line(">.*")
        client.hang_up()
        wait_for(lambda: codes)
    assert codes == [1000]


def test_a_room_that_is_joined_begins_with_its_last_messages() -> None:
    """Issue 13, item 11: as many as ``--history`` shows on entering, and in the same way."""
    with ChatServer(port=0, notices=False, greeting="") as chat:
        for number in range(9):
            chat.say(f"message {number}", room="ops")
        with Terminal(f"ws://127.0.0.1:{chat.port}", "--history", "2") as screen:
            screen.wait_for_line(">.*")
            screen.wait_for_last(r".*\blobby\b.*connected.*")
            screen.type("/join ops\r")
            screen.wait_for_line("server: message 8")
            chat.say("live", room="ops")
            screen.wait_for_line("server: live")
            shown = screen.scrollback()
            assert shown[-5] == "-> You are in ops now."
            assert re.fullmatch("--- What was said before, since .* ---", shown[-4])
            assert shown[-3:] == ["server: message 7", "server: message 8", "server: live"]
