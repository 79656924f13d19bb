"""ChatServer and Client as programs use them."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack

import pytest
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from syncchat import ChatServer, Client, ConnectionClosed, events
from syncchat.chat.dialects import LineFormat
from syncchat.chat.room_names import room_of
from syncchat.chat.sanitize import clean, escape, indent
from syncchat.client import Line
from syncchat.errors import AddressInUse, CannotConnect, InvalidURL
from syncchat.net import WebSocket, serve
from tests.peer import PATIENCE, Peer, wait_for
from tests.people import GREETING, Json, Plain, line, lines, settled, url_of


def entered(stack: ExitStack, chat: ChatServer, path: str = "/") -> Client:
    """A client that has joined its room: it gets its own messages."""
    client = stack.enter_context(Client(url_of(chat, path)))
    assert line(client) == GREETING
    client.say("here")
    assert line(client).endswith(": here")
    return client


# The server.


def test_a_server_starts_and_stops_any_number_of_times() -> None:
    chat = ChatServer(port=0, notices=False)
    ports = set()
    for _ in range(5):
        with chat, ExitStack() as stack:
            ports.add(chat.port)
            entered(stack, chat)
    assert 0 not in ports
    assert chat.port == 0
    chat.stop()


def test_a_running_server_cannot_be_started_again() -> None:
    with ChatServer(port=0, notices=False) as chat:
        with pytest.raises(RuntimeError):
            chat.start()
        with pytest.raises(AddressInUse):
            ChatServer(port=chat.port).start()


def test_serve_forever_returns_after_a_request_to_stop() -> None:
    lines: list[str] = []
    chat = ChatServer(port=0, notices=False, log=lines.append)
    thread = threading.Thread(target=chat.serve_forever)
    thread.start()
    wait_for(lambda: lines)
    assert lines[0] == f"listening on port {chat.port}"
    chat.request_stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_request_to_stop_before_the_start_counts() -> None:
    lines: list[str] = []
    chat = ChatServer(port=0, notices=False, log=lines.append)
    chat.request_stop()
    chat.serve_forever()
    # The server did start, and stopped at once.
    assert lines[0].startswith("listening on port ")


def test_the_server_can_send_a_message_to_a_room() -> None:
    with ChatServer(port=0, notices=False) as chat, ExitStack() as stack:
        lobby, ops = entered(stack, chat), entered(stack, chat, "/ops")
        chat.say("to the lobby")
        chat.say("to ops\x1b[2J", room="ops")
        chat.say("to nobody", room="empty")
        with pytest.raises(TypeError):
            chat.say(None)  # type: ignore[arg-type]
        assert line(lobby) == "server: to the lobby"
        assert line(ops) == "server: to ops[2J"


def test_each_path_is_a_room_of_its_own() -> None:
    with ChatServer(port=0, notices=False) as chat, ExitStack() as stack:
        lobby = entered(stack, chat)
        ops = entered(stack, chat, "/ops")
        same = entered(stack, chat, "/ops?nick=x")
        assert line(ops).endswith(": here")
        same.say("in ops")
        lobby.say("in lobby")
        assert line(ops).endswith(": in ops")
        assert line(same).endswith(": in ops")
        assert line(lobby).endswith(": in lobby")


def test_empty_rooms_are_removed() -> None:
    with ChatServer(port=0, notices=False, max_rooms=1) as chat:
        for number in range(20):
            with Client(url_of(chat, f"/room{number}")) as client:
                assert line(client) == GREETING
            settled(chat, 0)


def test_the_log_has_the_events_in_order() -> None:
    lines: list[str] = []
    with (
        ChatServer(port=0, notices=False, log=lines.append) as chat,
        Peer.client(chat.port) as peer,
    ):
        who = f"127.0.0.1:{peer.sock.getsockname()[1]}"
        peer.send(TextMessage(data="a\\b\nc"), BytesMessage(data=b"x"), CloseConnection(code=1000))
        peer.expect_end()
        peer.close()
        wait_for(lambda: len(lines) == 6)
        assert lines[0] == f"listening on port {chat.port}"
        # After the lines with the URL and the engine.
        assert lines[3:] == [
            f"New connection from {who}",
            f"Received from {who}: a\\\\b\\nc",
            f"Client {who} disconnected",
        ]


def test_a_protocol_violation_affects_only_its_client_and_logs_one_line() -> None:
    lines: list[str] = []
    with ChatServer(port=0, notices=False, log=lines.append) as chat, ExitStack() as stack:
        honest = entered(stack, chat)
        attacks = [
            (b"\x81\x02hi", 1002),
            (b"\x81\x82\x00\x00\x00\x00\xc3\x28", 1007),
            (b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x01" + bytes(4 + 65537), 1009),
        ]
        for attack, code in attacks:
            lines.clear()
            with Peer.client(chat.port) as peer:
                assert peer.expect(TextMessage).data == GREETING
                peer.send_bytes(attack)
                assert peer.expect(CloseConnection).code == code
                peer.expect_end()
            wait_for(lambda: any("disconnected" in line for line in lines))
            assert len(lines) <= 3
        honest.say("undisturbed")
        assert line(honest).endswith(": undisturbed")


def test_a_slow_client_is_logged_and_counted() -> None:
    lines: list[str] = []
    chat = ChatServer(port=0, notices=False, log=lines.append, max_backlog=50_000, rate=0)
    with chat, Peer.client(chat.port) as stalled, ExitStack() as stack:
        who = f"127.0.0.1:{stalled.sock.getsockname()[1]}"
        talker = entered(stack, chat)
        while chat.stats().slow_consumers == 0:
            talker.say("x" * 60_000)
            line(talker)
        wait_for(lambda: any(line.startswith(f"Client {who} is too slow") for line in lines))
        talker.say("still here")
        assert line(talker).endswith(": still here")


def test_a_greeted_client_is_a_member() -> None:
    with ChatServer(port=0, notices=False, rate=0) as chat:
        for number in range(200):
            with Client(url_of(chat)) as client:
                assert line(client) == GREETING
                chat.say(str(number))
                assert line(client) == f"server: {number}"


# The plain dialect.


def test_a_line_with_a_slash_is_a_command_and_two_slashes_escape_it() -> None:
    with (
        ChatServer(port=0, notices=False, greeting="") as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.send("here")
        assert ann.hear() == bob.hear() == "bob: here"
        ann.send("before", "/help", "/hlep x", "//etc", "/", "last", "/QUIT now", "not said")
        assert ann.hear() == "ann: before"
        assert ann.hear().startswith("-> Commands:\n    /help ")
        assert ann.hear().startswith("-> Unknown command /hlep. Did you mean /help?")
        assert ann.hear() == "ann: /etc"
        assert ann.hear() == "-> Unknown command /. /help lists the commands."
        assert ann.hear() == "ann: last"
        assert ann.hear_end() == 1000
        assert [bob.hear() for _ in range(3)] == ["ann: before", "ann: /etc", "ann: last"]


def test_one_trailing_line_end_is_removed_from_a_plain_message() -> None:
    """Issue 13, item 2: websocat sends the line end of each typed line."""
    logged: list[str] = []
    with (
        ChatServer(port=0, greeting="", notices=False, rate=0, log=logged.append) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.event("welcome")
        ann.send("one\n", "two\r\n", "three\n\n", "four\r", "\n five", "/names\n", "//six\r\n")
        assert ann.hear() == "ann: one"
        assert ann.hear() == "ann: two"
        assert ann.hear() == "ann: three\n    "
        assert ann.hear() == "ann: four"
        assert ann.hear() == "ann: \n     five"
        assert ann.hear() == "-> 2 connected: ann, bob"
        assert ann.hear() == "ann: /six"
        heard = [bob.event("message")["text"] for _ in range(6)]
        assert heard == ["one", "two", "three\n", "four", "\n five", "/six"]
        received = [line.partition(": ")[2] for line in logged if line.startswith("Received")]
        assert received == ["one", "two", "three\\n", "four\\r", "\\n five", "/six"]


def test_an_empty_plain_message_is_ignored() -> None:
    """Issue 13, item 2: a line end alone, or a text that is empty once cleaned, is ignored."""
    logged: list[str] = []
    with (
        ChatServer(port=0, greeting="", notices=False, log=logged.append) as chat,
        Plain(url_of(chat, "/?nick=ann")) as ann,
        Json(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.event("welcome")
        ann.send("", "\n", "\r\n", "\r", "\x1b\n", "said")
        assert ann.hear() == "ann: said"
        assert bob.event("message").items() >= {"text": "said", "offset": 1}.items()
        # The JSON dialect keeps empty texts and line ends.
        bob.ask(type="say", text="")
        bob.ask(type="say", text="kept\n")
        assert ann.hear() == "bob: "
        assert ann.hear() == "bob: kept\n    "
        assert [line.partition(": ")[2] for line in logged if line.startswith("Received")] == [
            "said", "", "kept\\n",
        ]  # fmt: skip


def test_one_trailing_line_end_is_removed_from_a_plain_servers_message() -> None:
    """Issue 13, item 2: websocat sends the line end as a server, too."""

    def handler(websocket: WebSocket) -> None:
        for text in ("one\n", "two\r\n", "three\n\n"):
            websocket.send(text)
        websocket.recv()

    with serve(handler) as server, Client(f"ws://127.0.0.1:{server.port}/") as client:
        received = [client.receive(PATIENCE) for _ in range(3)]
        assert received == [Line("one"), Line("two"), Line("three\n")]


def test_continuation_lines_cannot_fake_a_speaker() -> None:
    with ChatServer(port=0, notices=False) as chat, ExitStack() as stack:
        client = entered(stack, chat)
        client.say("one\n127.0.0.1:1: two\r\nthree")
        shown = line(client).partition(": ")[2]
        assert shown == "one\n    127.0.0.1:1: two\n    three"


INDENTED = "x\n    four\n  two\nnone"
#: The shown text: a prefix for each continuation line, before its own blanks.
INDENTED_SHOWN = "x\n        four\n      two\n    none"


def test_continuation_lines_keep_their_own_indentation() -> None:
    """Issue 13, item 6: in the plain dialect, and in ``lines()`` of events."""
    when = r"\[\d{4}-\d\d-\d\d \d\d:\d\d\]"
    with (
        ChatServer(port=0, notices=False, greeting="", rate=0) as chat,
        Client(url_of(chat), nick="ann") as ann,
        Plain(url_of(chat, "/?nick=bob")) as bob,
    ):
        bob.send("here")
        assert line(ann) == bob.hear() == "bob: here"
        ann.say(INDENTED)
        assert line(ann) == bob.hear() == f"ann: {INDENTED_SHOWN}"
        bob.send(INDENTED)
        assert line(ann) == bob.hear() == f"bob: {INDENTED_SHOWN}"
        ann.act(INDENTED)
        assert line(ann) == bob.hear() == f"** ann {INDENTED_SHOWN}"
        ann.ask(events.Private("bob", INDENTED))
        assert line(ann) == f"-> [Sent PM to bob] {INDENTED_SHOWN}"
        assert bob.hear() == f"[PM from ann] {INDENTED_SHOWN}"
        bob.send("/search x")
        found = [re.sub(f"^-> {when} ", "", bob.hear()) for _ in range(3)]
        assert found == [f"{who} {INDENTED_SHOWN}" for who in ("ann:", "bob:", "** ann")]


def test_lines_of_a_plain_server_keep_their_indentation_and_fake_no_speaker() -> None:
    """Issue 13, item 6: a client cannot know whether they are already indented."""

    def handler(websocket: WebSocket) -> None:
        websocket.send(f"ann: {INDENTED}")
        websocket.send(f"ann: {INDENTED_SHOWN}")
        websocket.recv()

    with serve(handler) as server, Client(f"ws://127.0.0.1:{server.port}/") as client:
        assert line(client) == f"ann: {INDENTED_SHOWN}"
        assert line(client) == f"ann: {indent(INDENTED_SHOWN)}"


def test_a_format_without_the_sender_keeps_every_blank() -> None:
    """Issue 13, item 6: the bare text of the exercise is not changed."""
    with (
        ChatServer(port=0, notices=False, greeting="", format="{text}") as chat,
        Client(url_of(chat), nick="ann") as ann,
        Plain(url_of(chat)) as bob,
    ):
        bob.send(INDENTED)
        assert line(ann) == bob.hear() == INDENTED


def test_received_text_is_sanitized() -> None:
    with ChatServer(port=0, notices=False) as chat, ExitStack() as stack:
        client = entered(stack, chat)
        client.say("a\x1b]52;c;AAAA\x07b\x9b31mc\u202ed\u200de\tf")
        assert line(client).endswith(": a]52;c;AAAAb31mcd\u200de\tf")


def test_clean_removes_harmful_characters_only() -> None:
    harmful = [*range(9), *range(11, 32), 127, *range(0x80, 0xA0), 0x61C, 0x200E, 0x200F]
    harmful += [*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)]
    assert clean("".join(map(chr, harmful))) == ""
    fine = "a\tb\nc ü 漢字 עברית 👨‍👩‍👧 \u3164"
    assert clean(fine) == fine


def test_escape_escapes_like_repr() -> None:
    for text in (
        "plain ü",
        "tab\t",
        "new\nline",
        "back\\slash",
        "\x1b[31m",
        "\u202e",
        "\U000e0041",
    ):
        assert escape(text) == repr(text)[1:-1]
    assert escape("""it's "quoted" \n""") == """it's "quoted" \\n"""
    assert indent("a\nb\n\nc\n      d") == "a\n    b\n    \n    c\n          d"


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "{name}",
        "{0}",
        "{}",
        "{text.x}",
        "{text!z}",
        "{text:d}",
        "",
        "{sender}",
        "{text[0]}",
        "{text.__class__}",
        "{text:>5}",
        "{text:{sender}}",
        "{text!r}",
        "{text:99999999999999}",
        "{text}{text}",
        "{text}" + " " * 200,
    ],
)
def test_a_bad_format_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="format"):
        ChatServer(format=template)


def test_a_format_without_the_sender_leaves_the_text_as_it_is() -> None:
    assert LineFormat("{text}").line("me", "a\nb") == "a\nb"
    assert LineFormat("<{sender}> {text}").line("me", "a\nb") == "<me> a\n    b"


@pytest.mark.parametrize(
    ("path", "room"),
    [("/", "lobby"), ("", "lobby"), ("/ops", "ops"), ("/ops/", "ops"), ("/OPS", "ops"),
     ("/%23ops", "ops"), ("//", "lobby"), ("/%6Fps", "ops"), ("/%e2%82%ac", "€")],
)  # fmt: skip
def test_the_path_names_the_room(path: str, room: str) -> None:
    assert room_of(path) == room


# The client.


def test_a_client_iterates_until_the_server_stops() -> None:
    heard: list[str] = []
    with ChatServer(port=0, notices=False) as chat, ExitStack() as stack:
        client = stack.enter_context(Client(url_of(chat), reconnect=False))
        assert line(client) == GREETING
        reader = threading.Thread(target=lambda: heard.extend(lines(client)))
        reader.start()
        chat.say("one")
        wait_for(lambda: heard)
        chat.stop()
        reader.join(PATIENCE)
        assert heard == ["server: one"]
        assert client.close_code == 1001
        assert client.close_reason == "the server is stopping"
        with pytest.raises(ConnectionClosed):
            client.say("too late")


def test_a_client_reconnects_by_itself() -> None:
    with ChatServer(port=0, notices=False, greeting="") as chat:
        client = Client(url_of(chat))
        for _ in range(3):
            client.connect()
            with pytest.raises(RuntimeError):
                client.connect()
            client.say("x")
            assert line(client).endswith(": x")
            client.close()
            client.close()
            assert client.close_code == 1000


def test_leaving_is_immediate_and_loses_nothing() -> None:
    with (
        ChatServer(port=0, notices=False, greeting="", rate=0) as chat,
        Client(url_of(chat)) as client,
    ):
        for number in range(100):
            client.say(str(number))
        client.leave()
        assert [text.partition(": ")[2] for text in lines(client)] == [str(n) for n in range(100)]
        assert client.close_code == 1000


def test_a_client_receives_longer_lines_than_it_may_send() -> None:
    with ChatServer(port=0, notices=False, greeting="") as chat, Client(url_of(chat)) as client:
        longest = "\u20ac" + "x" * 65480
        client.say(longest)
        assert line(client).endswith(f": {longest}")
        with pytest.raises(ValueError, match="exceeds the limit of 65536 bytes"):
            client.say("x" * 65536)
        assert client.connected


def test_texts_with_a_lone_surrogate_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        ChatServer(greeting="\udc80")
    with pytest.raises(ValueError, match="surrogates"):
        ChatServer(format="\udc80{text}")


def test_calls_without_a_connection_raise() -> None:
    client = Client("ws://127.0.0.1:1/")
    with pytest.raises(RuntimeError, match="not connected"):
        client.say("x")
    with pytest.raises(TypeError):
        client.say(b"x")  # type: ignore[arg-type]
    assert client.close_code is None
    assert client.close_reason is None
    client.close()
    with pytest.raises(CannotConnect):
        client.connect()
    with pytest.raises(InvalidURL):
        Client("http://127.0.0.1/")
