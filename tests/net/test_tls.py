"""TLS: the same conversation, encrypted; and certificates that are not valid."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from websockets.sync.client import connect as other_librarys_connect

from syncchat import ChatServer, Client
from syncchat.errors import CannotConnect, ConnectionClosed
from syncchat.net import Group, Server, WebSocket, connect, serve
from tests.peer import PATIENCE, ask_http, read_all, upgrade_request, wait_for
from tests.people import line
from tests.processes import CLIENT, SERVER, Script, run


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def files(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    cert = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    cert.private_key_pem.write_to_path(folder / "key.pem")
    cert.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    cert.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    return folder


def echo(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


@pytest.fixture
def server(server_context: ssl.SSLContext) -> Iterator[Server]:
    with serve(
        echo,
        ssl_context=server_context,
        max_message=64 << 20,
        max_backlog=64 << 20,
    ) as server:
        yield server


def url_of(server: Server) -> str:
    return f"wss://127.0.0.1:{server.port}/"


def test_messages_of_every_size_go_both_ways(
    server: Server, client_context: ssl.SSLContext
) -> None:
    with connect(url_of(server), ssl_context=client_context, max_message=64 << 20) as websocket:
        for size in (0, 1, 125, 126, 16384, 16385, 65536, 5_000_000):
            data = os.urandom(size)
            websocket.send(data)
            assert websocket.recv(PATIENCE) == data
        websocket.send("grüß dich")
        assert websocket.recv(PATIENCE) == "grüß dich"
    assert websocket.close_code == 1000


def test_another_librarys_client_is_served(server: Server, client_context: ssl.SSLContext) -> None:
    # Two threads of that client use its TLS connection at once, which Python's ssl does not
    # support: on a busy machine, its request gets lost once in some hundred times.
    for _ in range(5):
        with (
            suppress(TimeoutError),
            other_librarys_connect(
                url_of(server), ssl=client_context, open_timeout=PATIENCE / 5
            ) as websocket,
        ):
            websocket.send("hello")
            assert websocket.recv(PATIENCE) == "hello"
            return
    pytest.fail("no handshake was answered")


def test_a_flood_both_ways_from_several_threads_loses_nothing(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    count, threads = 300, 3
    heard: list[bytes] = []
    done = threading.Event()

    def flood(websocket: WebSocket, name: int) -> None:
        for number in range(count):
            websocket.send(b"%d %d " % (name, number) + b"x" * (number * 37 % 5000))
            if number % 20 == 0:
                websocket.flush(PATIENCE)

    def both(websocket: WebSocket) -> list[bytes]:
        senders = [threading.Thread(target=flood, args=(websocket, n)) for n in range(threads)]
        for sender in senders:
            sender.start()
        messages = [websocket.recv(PATIENCE) for _ in range(count * threads)]
        for sender in senders:
            sender.join(PATIENCE)
        return [bytes(message) for message in messages if isinstance(message, bytes)]

    def handler(websocket: WebSocket) -> None:
        heard.extend(both(websocket))
        done.set()
        with_the_end = list(websocket)
        assert with_the_end == []

    with serve(handler, ssl_context=server_context, max_backlog=64 << 20) as it:
        url = f"wss://127.0.0.1:{it.port}/"
        with connect(url, ssl_context=client_context, max_backlog=64 << 20) as websocket:
            got = both(websocket)
            assert done.wait(PATIENCE)
    for messages in (heard, got):
        order: dict[bytes, list[int]] = {b"%d" % n: [] for n in range(threads)}
        for message in messages:
            name, number, filling = message.split(b" ")
            assert filling == b"x" * (int(number) * 37 % 5000)
            order[name].append(int(number))
        assert all(numbers == list(range(count)) for numbers in order.values())


def test_a_group_fans_out_and_closes_a_slow_member(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    group = Group()

    def handler(websocket: WebSocket) -> None:
        group.add(websocket)
        list(websocket)

    with serve(handler, ssl_context=server_context, max_backlog=200_000) as it:
        url = f"wss://127.0.0.1:{it.port}/"
        with (
            connect(url, ssl_context=client_context) as stalled,
            connect(url, ssl_context=client_context) as reading,
        ):
            wait_for(lambda: len(group) == 2)
            sent = 0
            while it.stats().slow_consumers == 0:
                group.send(bytes(30_000))
                assert reading.recv(PATIENCE) == bytes(30_000)
                sent += 1
            assert len(group) <= 2
            received = 0
            with pytest.raises(ConnectionClosed) as caught:
                while stalled.recv(PATIENCE) == bytes(30_000):
                    received += 1
            # TLS records are never cut: all that arrived is complete, and ends with the reason.
            assert caught.value.code == 1013
            assert 0 < received < sent


def test_a_client_without_tls_affects_no_other(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    refused: list[str] = []
    with serve(
        echo,
        ssl_context=server_context,
        open_timeout=0.5,
        on_refused=lambda _, reason: refused.append(reason),
    ) as it:
        for garbage in (upgrade_request(), b"\x16\x03\x01\xff\xff" + bytes(100), b"\x00" * 2000):
            with socket.create_connection(("127.0.0.1", it.port), timeout=PATIENCE) as sock:
                sock.sendall(garbage)
                try:
                    read_all(sock)
                except ConnectionResetError:
                    continue
        with socket.create_connection(("127.0.0.1", it.port), timeout=PATIENCE) as silent:
            assert read_all(silent) == b""
        assert len(refused) == 4
        assert all(reason.startswith("TLS: ") for reason in refused)
        assert it.stats().refused == {"TLS": 4}
        with connect(f"wss://127.0.0.1:{it.port}/", ssl_context=client_context) as websocket:
            websocket.send("x")
            assert websocket.recv(PATIENCE) == "x"


def test_an_invalid_certificate_is_one_clear_error(
    server: Server, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    with pytest.raises(CannotConnect, match="certificate is not valid: .*issuer"):
        connect(url_of(server))
    other_name = url_of(server).replace("127.0.0.1", "127.0.0.2")
    with serve(echo, "127.0.0.2", 0, ssl_context=server_context) as elsewhere:
        with pytest.raises(CannotConnect, match="certificate is not valid: .*127.0.0.2"):
            connect(
                other_name.replace(str(server.port), str(elsewhere.port)),
                ssl_context=client_context,
            )


def test_a_server_without_tls_is_one_clear_error(client_context: ssl.SSLContext) -> None:
    with serve(echo) as plain:
        with pytest.raises(CannotConnect, match=f"127.0.0.1:{plain.port}: "):
            connect(f"wss://127.0.0.1:{plain.port}/", ssl_context=client_context)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(TimeoutError):
        connect(
            f"wss://127.0.0.1:{listening.getsockname()[1]}/",
            ssl_context=client_context,
            open_timeout=0.2,
        )


def answering_once(answer: bytes) -> tuple[int, threading.Thread]:
    """The port of a server that sends this answer to one client and closes."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(PATIENCE)

    def serve_one() -> None:
        with listening, listening.accept()[0] as sock:
            sock.recv(65536)
            sock.sendall(answer)

    thread = threading.Thread(target=serve_one)
    thread.start()
    return listening.getsockname()[1], thread


def one_error(url: str) -> str:
    """The error line of the client command."""
    result = run([*CLIENT, url])
    assert (result.returncode, result.stdout) == (1, "")
    (error,) = result.stderr.splitlines()
    return error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS: try ws:// instead of wss://"),
        (b"SSH-2.0-x\r\n", "it does not speak TLS: try ws:// instead of wss://"),
        (
            b"",
            (
                "the connection was closed during the TLS handshake;"
                " if the server does not speak TLS, try ws:// instead of wss://"
            ),
        ),
    ],
)
def test_the_client_is_told_to_try_without_tls(answer: bytes, reason: str) -> None:
    """Issue 13, item 16: a ``wss:`` URL for a server without TLS."""
    port, thread = answering_once(answer)
    assert one_error(f"wss://127.0.0.1:{port}/") == f"cannot connect to 127.0.0.1:{port}: {reason}"
    thread.join(PATIENCE)


def test_the_client_is_told_to_try_without_tls_for_our_server_and_a_silent_one() -> None:
    """Issue 13, item 16: a ``wss:`` URL for a ChatServer without TLS, and for a server that does
    not answer.
    """
    with serve(echo) as plain:
        assert one_error(f"wss://127.0.0.1:{plain.port}/?token=s3cret") == (
            f"cannot connect to 127.0.0.1:{plain.port}:"
            " it does not speak TLS: try ws:// instead of wss://"
        )
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        pytest.raises(
            TimeoutError, match="if the server does not speak TLS, try ws:// instead of wss://"
        ),
    ):
        connect(f"wss://127.0.0.1:{listening.getsockname()[1]}/", open_timeout=0.2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "the server speaks TLS: try wss:// instead of ws://"),
        (
            b"",
            (
                "the server closed the connection during the handshake;"
                " if it speaks TLS, try wss:// instead of ws://"
            ),
        ),
    ],
)
def test_the_client_is_told_to_try_with_tls(answer: bytes, reason: str) -> None:
    """Issue 13, item 16: a ``ws:`` URL for a server with TLS."""
    port, thread = answering_once(answer)
    url = f"ws://127.0.0.1:{port}/"
    assert one_error(url) == f"cannot join the chat at {url}: {reason}"
    thread.join(PATIENCE)


def test_our_server_tells_a_client_without_tls(server: Server) -> None:
    """Issue 13, item 16: ``ws:`` and ``http:`` URLs for a ChatServer with TLS."""
    url = f"ws://127.0.0.1:{server.port}/"
    told = "This port requires TLS: use wss:// or https://."
    assert one_error(url) == f"cannot join the chat at {url}: HTTP status 400: {told}"
    assert ask_http(server.port, "/")[::2] == (400, f"{told}\n".encode())
    assert server.stats().refused == {"TLS": 2}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl's command")
def test_the_client_is_told_to_try_with_tls_for_openssls_server(files: Path) -> None:
    """Issue 13, item 16: a ``ws:`` URL for OpenSSL, which closes the connection without an
    answer.
    """
    both = str(files / "both.pem")
    with Script(["openssl", "s_server", "-accept", "0", "-cert", both, "-key", both]) as server:
        port = server.wait_for_line(r"ACCEPT .*:\d+").rsplit(":", 1)[1]
        url = f"ws://127.0.0.1:{port}/"
        assert one_error(url) == (
            f"cannot join the chat at {url}: the server closed the connection during the"
            " handshake; if it speaks TLS, try wss:// instead of ws://"
        )


def test_closing_works_over_tls(server: Server, client_context: ssl.SSLContext) -> None:
    with connect(url_of(server), ssl_context=client_context) as websocket:
        websocket.send("x")
        assert websocket.recv(PATIENCE) == "x"
        server.stop()
        with pytest.raises(ConnectionClosed):
            websocket.recv(PATIENCE)
        assert websocket.close_code == 1001


def test_the_chat_over_tls_with_the_classes(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    with (
        ChatServer(port=0, ssl_context=server_context) as chat,
        Client(f"wss://localhost:{chat.port}/", ssl_context=client_context) as client,
    ):
        assert line(client) == "Welcome to chat! Type a message"
        client.say("hi")
        assert line(client).endswith(": hi")


@pytest.mark.parametrize("flags", [["--tls-cert", "cert.pem", "--tls-key", "key.pem"],
                                   ["--tls-cert", "both.pem"]])  # fmt: skip
def test_the_chat_over_tls_with_the_commands(files: Path, flags: list[str]) -> None:
    flags = [str(files / flag) if flag.endswith(".pem") else flag for flag in flags]
    with Script([*SERVER, "--port", "0", *flags]) as server:
        port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
        url = f"wss://127.0.0.1:{port}/"
        server.wait_for_line(
            f"Open https://127.0.0.1:{port}/ in a browser, or join with: syncchat {url}"
        )
        with Script([*CLIENT, url, "--ca-file", str(files / "ca.pem")]) as client:
            client.type("hello\n")
            client.wait_for_line(r"127\.0\.0\.1:\d+: hello")
            client.end_input()
            assert client.exit_code() == 0
        with Script([*CLIENT, url]) as distrustful:
            assert distrustful.exit_code() == 1
            assert len(distrustful.errors) == 1
            assert re.match(
                rf"cannot connect to 127\.0\.0\.1:{port}: the certificate is not valid: ",
                distrustful.errors[0],
            )


def test_a_server_with_tls_on_all_interfaces_warns_only_without_a_token(
    server_context: ssl.SSLContext,
) -> None:
    lines: list[str] = []
    with ChatServer("0.0.0.0", 0, ssl_context=server_context, log=lines.append) as chat:
        assert lines[2] == (
            f"Warning: everyone who can reach port {chat.port} of this machine can read and write"
            " here. Set --token-file or --guests no, or --host 127.0.0.1."
        )
    lines.clear()
    guarded = ChatServer("0.0.0.0", 0, token="s3cret", ssl_context=server_context, log=lines.append)
    with guarded:
        assert not any(line.startswith("Warning") for line in lines)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ([*SERVER, "--tls-cert", "nowhere.pem"], "no such file"),
        ([*SERVER, "--tls-cert", __file__], "cannot use the certificate"),
        ([*SERVER, "--tls-cert", __file__, "--tls-key", "nowhere.pem"], "no PEM certificate"),
        ([*CLIENT, "--ca-file", "nowhere.pem"], "no such file"),
        ([*CLIENT, "--ca-file", __file__], "cannot use the certificates"),
    ],
)
def test_an_invalid_certificate_file_prints_one_line(command: list[str], complaint: str) -> None:
    with Script(command) as script:
        assert script.exit_code() == 1
        assert len(script.errors) == 1
        assert complaint in script.errors[0]


def test_a_certificate_without_its_key_is_a_usage_error(files: Path) -> None:
    """Issue 13, item 16: the error names the file and the missing flag."""
    result = run([*SERVER, "--port", "0", "--tls-cert", str(files / "cert.pem")])
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(
        f"error: --tls-cert {files / 'cert.pem'} contains no private key: set --tls-key"
    )
    alone = run([*SERVER, "--port", "0", "--tls-key", str(files / "key.pem")])
    assert alone.returncode == 2
    assert alone.stderr.splitlines()[-1].endswith("error: --tls-key requires --tls-cert")


@pytest.mark.parametrize(
    ("cert", "key", "complaint"),
    [
        ("cert.pem", "other.pem", "{cert}: the key in {key} does not match the certificate"),
        ("cert.pem", "cert.pem", "{cert}: {key} contains no PEM private key"),
        ("cert.pem", "nowhere.pem", "{cert}: {key}: no such file or directory"),
        ("nowhere.pem", "key.pem", "{cert}: no such file or directory"),
        ("key.pem", "key.pem", "{cert}: it contains no PEM certificate"),
        ("key.pem", None, "{cert}: it contains no PEM certificate"),
        ("broken.pem", None, "{cert}: OpenSSL cannot read it or its key"),
        (
            "cert.pem",
            "encrypted.pem",
            "{cert}: the key in {key} has a passphrase: remove it with openssl pkey",
        ),
    ],
)
def test_a_certificate_and_a_key_that_do_not_match_print_one_line(
    files: Path, ca: trustme.CA, cert: str, key: str | None, complaint: str
) -> None:
    """Issue 13, item 16: the error names the file and what it lacks."""
    ca.issue_cert("localhost").private_key_pem.write_to_path(files / "other.pem")
    broken = (files / "both.pem").read_text().replace("\nM", "\nA")
    (files / "broken.pem").write_text(broken)
    readable = load_pem_private_key((files / "key.pem").read_bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (files / "encrypted.pem").write_bytes(readable.private_bytes(*form))
    flags = ["--tls-cert", str(files / cert)]
    flags += [] if key is None else ["--tls-key", str(files / key)]
    result = run([*SERVER, "--port", "0", *flags])
    assert result.returncode == 1
    told = complaint.format(cert=files / cert, key=files / (key or ""))
    assert result.stderr == f"cannot use the certificate {told}\n"
