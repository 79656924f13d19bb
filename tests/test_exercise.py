"""Every row of the exercise, against the real server's script and real sockets.

A broadcast chat with a server and a client on port 2000, as five people built,
changed and described it. What they described stays as it is.
"""

from __future__ import annotations

import re
import signal
import socket
import threading

import pytest
from websockets.sync.client import connect as other_librarys_connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as other_librarys_serve
from wsproto.events import BytesMessage, TextMessage

from syncchat.terminal import Preferences
from tests.peer import PATIENCE, Peer
from tests.people import GREETING
from tests.processes import CLIENT, SERVER, Script, Terminal
from tests.processes import ServerScript as AnyServerScript
from tests.screen import Screen


class ServerScript(AnyServerScript):
    """The server as in the exercise, without notices."""

    def __init__(self, *flags: str) -> None:
        super().__init__("--no-notices", *flags)


def port_of(peer: Peer) -> int:
    return int(peer.sock.getsockname()[1])


def texts(peer: Peer, count: int) -> list[str]:
    return [peer.expect(TextMessage).data for _ in range(count)]


def greeted(server: ServerScript) -> Peer:
    """A client that has had its greeting, so that it is in the room."""
    peer = Peer.client(server.port)
    assert texts(peer, 1) == [GREETING]
    # It gets its own message, so it has joined.
    peer.send(TextMessage(data="here"))
    assert texts(peer, 1) == [f"127.0.0.1:{port_of(peer)}: here"]
    return peer


def test_e01_server_says_on_which_port_it_listens() -> None:
    with ServerScript() as server:
        assert server.lines[0] == f"listening on port {server.port}"
        socket.create_connection(("127.0.0.1", server.port)).close()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with Script([*SERVER, "--port", str(port)]) as fixed:
        assert fixed.wait_for_line("listening on port .*") == f"listening on port {port}"


def test_e02_server_shows_each_new_connection() -> None:
    with ServerScript() as server, Peer.client(server.port) as one, Peer.client(server.port) as two:
        for peer in (one, two):
            server.wait_for_line(f"New connection from 127.0.0.1:{port_of(peer)}")
        assert port_of(one) != port_of(two)


def test_e03_server_shows_each_message_with_control_characters_escaped() -> None:
    with ServerScript() as server, Peer.client(server.port) as peer:
        who = f"Received from 127.0.0.1:{port_of(peer)}: "
        for text in ("hello", "grüß dich 👋", "two\nlines", "\x1b]0;title\x07", "\x9b31m\u202e"):
            peer.send(TextMessage(data=text))
        server.wait_for_line(re.escape(who + "hello"))
        server.wait_for_line(re.escape(who + "grüß dich 👋"))
        server.wait_for_line(re.escape(who + r"two\nlines"))
        server.wait_for_line(re.escape(who + r"\x1b]0;title\x07"))
        server.wait_for_line(re.escape(who + r"\x9b31m\u202e"))


@pytest.mark.parametrize(
    ("flags", "first"),
    [([], GREETING), (["--greeting", "Grüezi"], "Grüezi"), (["--greeting", ""], None)],
)
def test_e04_new_client_is_greeted(flags: list[str], first: str | None) -> None:
    with ServerScript(*flags) as server, Peer.client(server.port) as peer:
        peer.send(TextMessage(data="x"))
        expected = [] if first is None else [first]
        expected.append(f"127.0.0.1:{port_of(peer)}: x")
        assert texts(peer, len(expected)) == expected


def test_e05_client_says_that_it_is_connected() -> None:
    with ServerScript() as server, Terminal(server.url) as client:
        client.wait_for_line("Connected to the chat!")
        client.wait_for_line(re.escape(GREETING))


def test_e06_sender_receives_own_message() -> None:
    with ServerScript() as server, greeted(server) as sender, greeted(server) as other:
        said = f"127.0.0.1:{port_of(other)}: here"
        assert texts(sender, 1) == [said]
        sender.send(TextMessage(data="hello"))
        for peer in (sender, other):
            assert texts(peer, 1) == [f"127.0.0.1:{port_of(sender)}: hello"]


def test_e07_sender_does_not_receive_own_message_without_echo() -> None:
    with (
        ServerScript("--no-echo") as server,
        Peer.client(server.port) as sender,
        Peer.client(server.port) as other,
    ):
        assert texts(sender, 1) == texts(other, 1) == [GREETING]
        other.send(TextMessage(data="I am in"))
        assert texts(sender, 1) == [f"127.0.0.1:{port_of(other)}: I am in"]
        sender.send(TextMessage(data="hello"))
        assert texts(other, 1) == [f"127.0.0.1:{port_of(sender)}: hello"]
        other.send(TextMessage(data="answer"))
        # The next message to the sender.
        assert texts(sender, 1) == [f"127.0.0.1:{port_of(other)}: answer"]


def test_e08_message_shows_the_senders_address() -> None:
    with ServerScript() as server, greeted(server) as peer:
        peer.send(TextMessage(data="hello"))
        assert texts(peer, 1) == [f"127.0.0.1:{port_of(peer)}: hello"]


def test_e09_message_shows_as_the_bare_text() -> None:
    with (
        ServerScript("--format", "{text}", "--greeting", "") as server,
        Peer.client(server.port) as peer,
    ):
        peer.send(TextMessage(data="hello"), TextMessage(data="{sender} {text} {0}"))
        assert texts(peer, 2) == ["hello", "{sender} {text} {0}"]


def test_e10_client_prints_its_prefix() -> None:
    with ServerScript() as server:
        with Screen(server.url, preferences=Preferences(prefix="From server: ")) as client:
            client.wait_for_line(re.escape(f"From server: {GREETING}"))
        with Script([*CLIENT, server.url, "--prefix", "From server: "]) as piped:
            piped.type("hello\n")
            piped.wait_for_line(r"From server: 127\.0\.0\.1:\d+: hello")


def test_e11_only_connected_clients_receive_a_message() -> None:
    with ServerScript() as server, greeted(server) as early:
        early.send(TextMessage(data="before"))
        assert texts(early, 1) == [f"127.0.0.1:{port_of(early)}: before"]
        with greeted(server) as late:
            # Its first messages were the greeting and its own.
            early.send(TextMessage(data="after"))
            assert texts(late, 1) == [f"127.0.0.1:{port_of(early)}: after"]


def test_e12_enter_sends_at_once_and_others_see_it_at_once() -> None:
    with (
        ServerScript() as server,
        greeted(server) as other,
        Screen(server.url) as client,
    ):
        client.wait_for_line(">.*")
        client.type("not yet sent")
        client.wait_for_line("> not yet sent")
        other.send(TextMessage(data="meanwhile"))
        # If the typed text needed another Enter, this would not be next.
        assert texts(other, 1) == [f"127.0.0.1:{port_of(other)}: meanwhile"]
        client.type("\r")
        assert texts(other, 1)[0].endswith(": not yet sent")
        # It is shown without any other action.
        client.wait_for_line(r"127\.0\.0\.1:\d+: not yet sent")


@pytest.mark.parametrize("way", ["Ctrl+C", "Ctrl+D", "/quit", "a close", "FIN", "RST", "SIGKILL"])
def test_e13_server_shows_who_left_and_the_others_continue(way: str) -> None:
    with ServerScript() as server, greeted(server) as one, greeted(server) as two:
        texts(one, 1)
        if way in ("a close", "FIN", "RST"):
            peer = Peer.client(server.port)
            who = f"127.0.0.1:{port_of(peer)}"
            server.wait_for_line(f"New connection from {who}")
            if way == "a close":
                peer.send_bytes(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
            if way == "RST":
                peer.reset()
            peer.close()
        elif way == "SIGKILL":
            with Terminal(server.url) as killed:
                line = server.wait_for_line(r"New connection from .*", times=3)
                who = line.removeprefix("New connection from ")
                killed.wait_for_line(">.*")
                killed.signal(signal.SIGKILL)
        else:
            with Screen(server.url) as client:
                line = server.wait_for_line(r"New connection from .*", times=3)
                who = line.removeprefix("New connection from ")
                client.wait_for_line(">.*")
                client.type({"Ctrl+C": "\x03", "Ctrl+D": "\x04", "/quit": "/quit\r"}[way])
                assert client.exit_code() == 0
        server.wait_for_line(f"Client {who} disconnected")
        one.send(TextMessage(data="still here"))
        assert texts(two, 1) == texts(one, 1) == [f"127.0.0.1:{port_of(one)}: still here"]
        assert sum("disconnected" in line for line in server.lines) == 1


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_e14_each_client_says_that_the_server_has_gone(way: signal.Signals) -> None:
    with (
        ServerScript() as server,
        Terminal(server.url) as client,
        Screen(server.url, reconnect=False) as leaving,
        Script([*CLIENT, server.url, "--no-reconnect"]) as piped,
    ):
        client.wait_for_line(">.*")
        leaving.wait_for_line(">.*")
        piped.wait_for_line(re.escape(GREETING), errors=True)
        server.signal(way)
        assert server.exit_code() == (0 if way != signal.SIGKILL else -signal.SIGKILL)
        client.wait_for_line("(The server has stopped|The connection to the server was lost).*")
        leaving.wait_for_line("(The server has stopped|The connection to the server was lost).*")
        assert leaving.exit_code() == 1
        piped.wait_for_line(
            "(The server has stopped|The connection to the server was lost).*", errors=True
        )
        assert piped.exit_code() == 1
        with Script([*SERVER, "--port", str(server.port), "--no-notices"]) as again:
            again.wait_for_line(f"listening on port {server.port}")
            client.wait_for_line("Connected to the chat again!")
            client.type("hello again\r")
            client.wait_for_line(r"127\.0\.0\.1:\d+: hello again")


def test_e15_the_port_is_chosen_by_flag_url_or_environment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
    with Script([*SERVER], SYNCCHAT_PORT=port) as server:
        server.wait_for_line(f"listening on port {port}")
        with Script(CLIENT, SYNCCHAT_PORT=port) as by_environment:
            by_environment.wait_for_line(re.escape(GREETING), errors=True)
        with Script([*CLIENT, f"ws://127.0.0.1:{port}"]) as by_url:
            by_url.wait_for_line(re.escape(GREETING), errors=True)
    with Script([*SERVER, "--port", port], SYNCCHAT_PORT="1") as by_flag:
        by_flag.wait_for_line(f"listening on port {port}")


def test_e16_client_at_the_wrong_port_fails_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with Script([*CLIENT, f"ws://127.0.0.1:{port}"]) as client:
        assert client.exit_code() == 1
        assert client.lines == []
        assert len(client.errors) == 1
        assert re.fullmatch(
            rf"cannot connect to 127\.0\.0\.1:{port}: connection refused", client.errors[0]
        )


def test_e17_another_librarys_client_is_served() -> None:
    with ServerScript() as server, greeted(server) as peer:
        with other_librarys_connect(server.url) as other:
            assert other.recv(PATIENCE) == GREETING
            who = "{}:{}".format(*other.local_address)
            other.send("hello")
            assert other.recv(PATIENCE) == f"{who}: hello"
        assert texts(peer, 1) == [f"{who}: hello"]
        server.wait_for_line(f"Client {who} disconnected")


def test_e17_our_client_talks_to_another_librarys_server() -> None:
    heard: list[str | bytes] = []

    def handler(connection: ServerConnection) -> None:
        connection.send("Hello from elsewhere")
        for message in connection:
            heard.append(message)
            connection.send(f"you said {message!s}")

    with other_librarys_serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            port = server.socket.getsockname()[1]
            with Screen(f"ws://127.0.0.1:{port}/") as client:
                client.wait_for_line("Hello from elsewhere")
                client.type("hi\r")
                client.wait_for_line("you said hi")
                client.type("\x04")
                assert client.exit_code() == 0
        finally:
            server.shutdown()
            thread.join(PATIENCE)
    assert heard == ["hi"]


def test_binary_and_empty_messages_are_ignored_and_fragments_joined() -> None:
    """The original sends an empty text to all; here it is ignored."""
    with ServerScript() as server, greeted(server) as peer:
        who = f"127.0.0.1:{port_of(peer)}"
        peer.send(BytesMessage(data=b"\x00"), TextMessage(data=""), TextMessage(data="\n"))
        peer.send(TextMessage(data="in ", message_finished=False), TextMessage(data="pieces"))
        assert texts(peer, 1) == [f"{who}: in pieces"]


def test_several_clients_talk_and_leave_in_any_order() -> None:
    with ServerScript() as server:
        clients = [Script([*CLIENT, server.url]) for _ in range(3)]
        try:
            for client in clients:
                client.wait_for_line(re.escape(GREETING), errors=True)
            # The greeting precedes the join: who receives its own message has joined.
            for number, client in enumerate(clients):
                client.type(f"client {number}\n")
                client.wait_for_line(rf"127\.0\.0\.1:\d+: client {number}")
            clients[1].end_input()
            assert clients[1].exit_code() == 0
            clients[0].type("two of us\n")
            clients[2].wait_for_line(r"127\.0\.0\.1:\d+: two of us")
            assert not any("two of us" in line for line in clients[1].lines)
        finally:
            for client in clients:
                client.__exit__()
