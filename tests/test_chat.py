"""ChatServer and Client as programs use them."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from syncchat import ChatServer, Client, ConnectionClosed
from syncchat.chat.plain import Command, LineFormat, Say, parse
from syncchat.chat.rooms import room_of
from syncchat.chat.safetext import clean, escape, indent
from syncchat.errors import AddressInUse, CannotConnect, InvalidURL
from tests.peer import PATIENCE, Peer, wait_for

GREETING = "Welcome to chat! Type a message"


def url_of(chat: ChatServer, path: str = "/") -> str:
    return f"ws://127.0.0.1:{chat.port}{path}"


def entered(stack: ExitStack, chat: ChatServer, path: str = "/") -> Client:
    """A client that is in its room: what it says comes back."""
    client = stack.enter_context(Client(url_of(chat, path)))
    assert client.receive(PATIENCE) == GREETING
    client.say("here")
    assert client.receive(PATIENCE).endswith(": here")
    return client


# The server.


def test_a_server_starts_and_stops_any_number_of_times() -> None:
    chat = ChatServer(port=0)
    ports = set()
    for _ in range(5):
        with chat, ExitStack() as stack:
            ports.add(chat.port)
            entered(stack, chat)
    assert 0 not in ports
    assert chat.port == 0
    chat.stop()


def test_a_server_that_runs_cannot_be_started_again() -> None:
    with ChatServer(port=0) as chat:
        with pytest.raises(RuntimeError):
            chat.start()
        with pytest.raises(AddressInUse):
            ChatServer(port=chat.port).start()


def test_serve_forever_returns_after_a_request_to_stop() -> None:
    lines: list[str] = []
    chat = ChatServer(port=0, log=lines.append)
    thread = threading.Thread(target=chat.serve_forever)
    thread.start()
    wait_for(lambda: lines)
    assert lines == [f"listening on port {chat.port}"]
    chat.request_stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_request_to_stop_that_comes_too_early_counts() -> None:
    chat = ChatServer(port=0)
    chat.request_stop()
    chat.serve_forever()


def test_the_server_can_say_something_to_a_room() -> None:
    with ChatServer(port=0) as chat, ExitStack() as stack:
        lobby, ops = entered(stack, chat), entered(stack, chat, "/ops")
        chat.say("to the lobby")
        chat.say("to ops\x1b[2J", room="ops")
        chat.say("to nobody", room="empty")
        with pytest.raises(TypeError):
            chat.say(None)  # type: ignore[arg-type]
        assert lobby.receive(PATIENCE) == "server: to the lobby"
        assert ops.receive(PATIENCE) == "server: to ops[2J"


def test_each_path_is_a_room_of_its_own() -> None:
    with ChatServer(port=0) as chat, ExitStack() as stack:
        lobby = entered(stack, chat)
        ops = entered(stack, chat, "/ops")
        same = entered(stack, chat, "/ops?nick=x")
        assert ops.receive(PATIENCE).endswith(": here")
        same.say("in ops")
        lobby.say("in lobby")
        assert ops.receive(PATIENCE).endswith(": in ops")
        assert same.receive(PATIENCE).endswith(": in ops")
        assert lobby.receive(PATIENCE).endswith(": in lobby")


def test_rooms_that_are_empty_are_forgotten() -> None:
    with ChatServer(port=0) as chat:
        for number in range(20):
            with Client(url_of(chat, f"/room{number}")) as client:
                client.receive(PATIENCE)
        wait_for(lambda: not chat._rooms._groups)


def test_the_log_tells_the_events_in_their_order() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append) as chat, Peer.client(chat.port) as peer:
        who = f"127.0.0.1:{peer.sock.getsockname()[1]}"
        peer.send(TextMessage(data="a\\b\n"), BytesMessage(data=b"x"), CloseConnection(code=1000))
        peer.expect_end()
        peer.close()
        wait_for(lambda: len(lines) == 4)
        assert lines == [
            f"listening on port {chat.port}",
            f"New connection from {who}",
            f"Received from {who}: a\\\\b\\n",
            f"Client {who} disconnected",
        ]


def test_a_client_that_breaks_the_rules_costs_one_line_and_nobody_else() -> None:
    lines: list[str] = []
    with ChatServer(port=0, log=lines.append) as chat, ExitStack() as stack:
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
        assert honest.receive(PATIENCE).endswith(": undisturbed")


def test_a_slow_client_is_logged_and_counted() -> None:
    lines: list[str] = []
    chat = ChatServer(port=0, log=lines.append, max_backlog=50_000, rate=0)
    with chat, Peer.client(chat.port) as stalled, ExitStack() as stack:
        who = f"127.0.0.1:{stalled.sock.getsockname()[1]}"
        talker = entered(stack, chat)
        while chat.stats().slow_consumers == 0:
            talker.say("x" * 60_000)
            talker.receive(PATIENCE)
        wait_for(lambda: any(line.startswith(f"Client {who} is too slow") for line in lines))
        talker.say("still here")
        assert talker.receive(PATIENCE).endswith(": still here")


def test_who_has_been_greeted_is_in() -> None:
    with ChatServer(port=0, rate=0) as chat:
        for number in range(200):
            with Client(url_of(chat)) as client:
                assert client.receive(PATIENCE) == GREETING
                chat.say(str(number))
                assert client.receive(PATIENCE) == f"server: {number}"


# The plain dialect.


def test_a_line_with_a_slash_is_a_command_and_two_slashes_escape_it() -> None:
    with ChatServer(port=0) as chat, ExitStack() as stack:
        client = entered(stack, chat)
        other = entered(stack, chat)
        client.receive(PATIENCE)
        client.send_line("before")
        client.send_line("/help")
        client.send_line("/nonsense x")
        client.send_line("//etc")
        client.say("/usr")
        assert client.receive(PATIENCE).endswith(": before")
        assert client.receive(PATIENCE).startswith("-> /help")
        assert client.receive(PATIENCE).startswith("-> There is no command /nonsense.")
        assert client.receive(PATIENCE).endswith(": /etc")
        assert client.receive(PATIENCE).endswith(": /usr")
        heard = [other.receive(PATIENCE).partition(": ")[2] for _ in range(3)]
        assert heard == ["before", "/etc", "/usr"]
        client.send_line("last")
        client.send_line("/quit")
        assert other.receive(PATIENCE).endswith(": last")
        assert [line.partition(": ")[2] for line in client] == ["last"]
        assert client.close_code == 1000


def test_parse_tells_what_is_meant() -> None:
    assert parse("hello") == Say("hello")
    assert parse("") == Say("")
    assert parse("//x") == Say("/x")
    assert parse("/QUIT now") is Command.QUIT
    assert parse("/help") is Command.HELP
    assert parse("/nick me") == "nick"
    assert parse("/") == ""
    assert parse("\x1b/quit") is Command.QUIT


def test_continuation_lines_cannot_fake_a_speaker() -> None:
    with ChatServer(port=0) as chat, ExitStack() as stack:
        client = entered(stack, chat)
        client.say("one\n127.0.0.1:1: two\r\nthree")
        line = client.receive(PATIENCE).partition(": ")[2]
        assert line == "one\n    127.0.0.1:1: two\n    three"


def test_text_is_cleaned_at_the_door() -> None:
    with ChatServer(port=0) as chat, ExitStack() as stack:
        client = entered(stack, chat)
        client.say("a\x1b]52;c;AAAA\x07b\x9b31mc\u202ed\u200de\tf")
        assert client.receive(PATIENCE).endswith(": a]52;c;AAAAb31mcd\u200de\tf")


def test_clean_drops_what_can_do_harm_and_keeps_what_people_write() -> None:
    harmful = [*range(9), *range(11, 32), 127, *range(0x80, 0xA0), 0x61C, 0x200E, 0x200F]
    harmful += [*range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xE0000, 0xE0080)]
    assert clean("".join(map(chr, harmful))) == ""
    fine = "a\tb\nc ü 漢字 עברית 👨‍👩‍👧 \u3164"
    assert clean(fine) == fine


def test_escape_is_as_repr_does_it() -> None:
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
    assert indent("a\nb\n\nc\n  d") == "a\n    b\n    \n    c\n      d"
    assert indent(indent("a\nb\n")) == indent("a\nb\n")


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
    [("/", "lobby"), ("", "lobby"), ("/ops", "ops"), ("/ops/", "ops"), ("/a%20b", "a b"),
     ("/%1b[2J", "[2J"), ("//", "lobby"), ("/a/b", "a/b"), ("/%e2%82%ac", "€")],
)  # fmt: skip
def test_the_path_names_the_room(path: str, room: str) -> None:
    assert room_of(path) == room


# The client.


def test_a_client_iterates_until_the_server_stops() -> None:
    lines: list[str] = []
    with ChatServer(port=0) as chat, ExitStack() as stack:
        client = entered(stack, chat)
        reader = threading.Thread(target=lambda: lines.extend(client))
        reader.start()
        chat.say("one")
        wait_for(lambda: lines)
        chat.stop()
        reader.join(PATIENCE)
        assert lines == ["server: one"]
        assert client.close_code == 1001
        assert client.close_reason == "the server is stopping"
        with pytest.raises(ConnectionClosed):
            client.say("too late")


def test_a_client_can_come_back_by_itself() -> None:
    with ChatServer(port=0, greeting="") as chat:
        client = Client(url_of(chat))
        for _ in range(3):
            client.connect()
            with pytest.raises(RuntimeError):
                client.connect()
            client.say("x")
            assert client.receive(PATIENCE).endswith(": x")
            client.close()
            client.close()
            assert client.close_code == 1000


def test_leaving_waits_for_nothing_and_loses_nothing() -> None:
    with ChatServer(port=0, greeting="", rate=0) as chat, Client(url_of(chat)) as client:
        for number in range(100):
            client.say(str(number))
        client.leave()
        assert [line.partition(": ")[2] for line in client] == [str(n) for n in range(100)]
        assert client.close_code == 1000


def test_a_client_receives_longer_lines_than_it_may_send() -> None:
    with ChatServer(port=0, greeting="") as chat, Client(url_of(chat)) as client:
        client.say("x" * 65536)
        assert client.receive(PATIENCE).endswith(": " + "x" * 65536)
        client.say("x" * 65537)
        with pytest.raises(ConnectionClosed, match="1009"):
            client.receive(PATIENCE)


def test_texts_with_a_lone_surrogate_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        ChatServer(greeting="\udc80")
    with pytest.raises(ValueError, match="surrogates"):
        ChatServer(format="\udc80{text}")


def test_a_client_that_is_not_connected_says_so() -> None:
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
