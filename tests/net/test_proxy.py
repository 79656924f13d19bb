"""Behind a proxy: the client's address, allowed hosts, and exact connection limits."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trustme
from wsproto.events import TextMessage

from syncchat import ChatServer
from syncchat.net import Request, Response, Server, WebSocket, serve
from syncchat.net.access_policy import Authorize
from tests.peer import PATIENCE, Peer, read_all, wait_for
from tests.processes import SERVER, Script, run
from tests.raw_http import answered, ask, handshake, request, status

PUBLIC = "http://chat.example.org"


# Without a proxy: the same headers from a client.


def show(asked: Request) -> Response:
    told = [*asked.remote_address, asked.scheme, asked.host]
    return Response(json.dumps(told).encode())


def shown(server: Server, headers: str, source: str = "127.0.0.1") -> list[Any]:
    answer = ask(server.port, request("/show", headers), source)
    assert status(answer) == 200, answer
    told: list[Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return told


def discard(websocket: WebSocket) -> None:
    list(websocket)


@contextmanager
def behind_loopback(**settings: Any) -> Iterator[Server]:
    """A server that trusts one address of this machine, and shows how it sees a request."""
    with serve(
        discard, trusted_proxies=["127.0.0.1"], routes={"/show": show}, **settings
    ) as server:
        yield server


def test_a_trusted_proxy_sets_address_scheme_and_host() -> None:
    """Issue 13, item 22: without a port in the header, it is the proxy's port."""
    with behind_loopback() as server:
        assert shown(
            server,
            "X-Forwarded-For: 192.0.2.1:99\r\nX-Forwarded-Proto: https\r\n"
            "X-Forwarded-Host: 127.0.0.9\r\n",
        ) == ["192.0.2.1", 99, "https", "127.0.0.9"]
        by_rfc = 'Forwarded: for="[2001:db8::1]:7";proto=https;host=localhost:1\r\n'
        assert shown(server, by_rfc) == ["2001:db8::1", 7, "https", "localhost:1"]
        host, port, *rest = shown(server, "X-Forwarded-For: 192.0.2.1\r\n")
        assert (host, rest) == ("192.0.2.1", ["http", "localhost"])
        assert port > 1024


def test_a_request_by_tls_has_the_scheme_https() -> None:
    """Issue 13, item 22: the scheme of the server itself, and of a proxy with and without the
    header.
    """
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with behind_loopback(ssl_context=server_context) as server:
        for source, headers, expected in [
            ("127.0.0.2", "X-Forwarded-Proto: http\r\n", ["127.0.0.2", "https"]),
            ("127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", ["192.0.2.1", "https"]),
            ("127.0.0.1", "X-Forwarded-Proto: http\r\n", ["127.0.0.1", "http"]),
        ]:
            plain = socket.create_connection(
                ("127.0.0.1", server.port), timeout=PATIENCE, source_address=(source, 0)
            )
            with context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(request("/show", headers))
                told = json.loads(read_all(sock).partition(b"\r\n\r\n")[2])
            assert [told[0], told[2]] == expected


def test_headers_of_other_addresses_are_ignored() -> None:
    """Issue 13, item 22: the headers of an untrusted address are ignored."""
    claim = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n"
    with behind_loopback() as server:
        told = shown(server, claim, source="127.0.0.2")
        assert (told[0], *told[2:]) == ("127.0.0.2", "http", "localhost")
        assert shown(server, "X-Forwarded-For: nonsense\r\n", "127.0.0.2")[0] == "127.0.0.2"
    with serve(discard, routes={"/show": show}) as server:
        assert shown(server, claim)[0] == "127.0.0.1"
    # With a public URL, this machine is trusted unless other proxies are set.
    with serve(discard, public_url=PUBLIC, routes={"/show": show}) as server:
        assert shown(server, claim)[0] == "192.0.2.1"
    with serve(
        discard, public_url=PUBLIC, trusted_proxies=["192.0.2.9"], routes={"/show": show}
    ) as server:
        assert shown(server, claim)[0] == "127.0.0.1"


def test_invalid_headers_of_a_proxy_are_400() -> None:
    """Issue 13, item 22: invalid headers of a trusted proxy are refused with the reason."""
    with behind_loopback() as server:
        for headers, reason in [
            ("X-Forwarded-For: nonsense\r\n", b"'nonsense' is not an address."),
            ("Forwarded: for=\r\n", b"'for=' is not a valid Forwarded header."),
            (
                "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n",
                b"Forwarded and X-Forwarded-For name different clients.",
            ),
        ]:
            for data in (request("/show", headers), handshake(headers)):
                answer = ask(server.port, data)
                assert status(answer) == 400
                assert answer.endswith(b"Invalid forwarding headers: " + reason + b"\n")


def test_only_the_host_of_the_public_url_is_allowed() -> None:
    """Issue 13, item 22: on loopback, the public URL and allowed origins are accepted."""
    with ChatServer(
        port=0, public_url=f"{PUBLIC}:8080/chat/", origins=["https://other.example"]
    ) as chat:
        for host, origin in [
            ("chat.example.org", f"{PUBLIC}:8080"),
            ("chat.example.org:8080", f"{PUBLIC}:8080"),
            ("CHAT.example.org", "https://other.example"),
            ("other.example", f"{PUBLIC}:8080"),
            # A proxy that does not forward Host.
            (f"127.0.0.1:{chat.port}", f"{PUBLIC}:8080"),
        ]:
            assert status(ask(chat.port, request(host=host))) == 200
            with socket.create_connection(("127.0.0.1", chat.port), timeout=PATIENCE) as sock:
                sock.sendall(handshake(f"Origin: {origin}\r\n", host))
                assert answered(sock) == 101
        for host, headers in [
            ("evil.example", ""),
            # A page that uses DNS rebinding can send this header.
            ("evil.example", "X-Forwarded-Host: chat.example.org\r\n"),
            ("localhost", "X-Forwarded-Host: evil.example\r\n"),
        ]:
            answer = ask(chat.port, request(host=host, headers=headers))
            assert status(answer) == 403
            assert b"the operator must start the server with --public-url" in answer
            assert status(ask(chat.port, handshake(headers, host))) == 403
        answer = ask(chat.port, handshake("Origin: https://evil.example\r\n", "chat.example.org"))
        assert status(answer) == 403
        assert b"with --origin https://evil.example" in answer


def test_health_is_never_local_through_a_proxy() -> None:
    """Issue 13, item 22: for every address that the proxy forwards."""
    with ChatServer(port=0, public_url=PUBLIC) as chat:
        for path in ("/healthz", "/metrics"):
            assert status(ask(chat.port, request(path))) == 200
            for client in ("127.0.0.1", "::1", "192.0.2.1"):
                headers = f"X-Forwarded-For: {client}\r\n"
                assert status(ask(chat.port, request(path, headers))) == 403


def test_the_log_has_the_clients_address() -> None:
    """Issue 13, item 22: in the log lines of connections and refusals, and in messages."""
    lines: list[str] = []
    with ChatServer(
        port=0, public_url=PUBLIC, log=lines.append, greeting="", notices=False
    ) as chat:
        with Peer.client(chat.port, headers="X-Forwarded-For: 2001:db8::7\r\n") as peer:
            who = f"[2001:db8::7]:{peer.sock.getsockname()[1]}"
            peer.send(TextMessage(data="hello"))
            assert peer.expect(TextMessage).data == f"{who}: hello"
        wait_for(lambda: any("disconnected" in line for line in lines))
        assert [line for line in lines if who in line] == [
            f"New connection from {who}",
            f"Received from {who}: hello",
            f"Client {who} disconnected",
        ]
        del lines[:]
        post = request("/", "X-Forwarded-For: 192.0.2.1:7\r\n", method="POST")
        assert status(ask(chat.port, post)) == 400
        claim = "X-Forwarded-For: 192.0.2.1:8\r\n"
        assert status(ask(chat.port, handshake(f"{claim}Origin: https://evil.example\r\n"))) == 403
        claim = "X-Forwarded-For: 192.0.2.1:9\r\nX-Forwarded-Host: localhost\r\n"
        assert status(ask(chat.port, request("/", claim, host="evil.example"))) == 403
        claim = "X-Forwarded-For: 192.0.2.1:10\r\n"
        old = handshake(claim).replace(b"Version: 13", b"Version: 9")
        assert status(ask(chat.port, old)) == 426
        claim = "X-Forwarded-For: 192.0.2.1:11\r\n"
        keyless = handshake(claim).replace(b"AAAA==", b"A")
        assert status(ask(chat.port, keyless)) == 400
        wanted = [f"Refused 192.0.2.1:{port}" for port in range(7, 12)]
        assert [line.split(": ")[0] for line in lines] == wanted


# Connection limits.


def is_let_in(stack: ExitStack, port: int, client: str | None, source: str = "127.0.0.1") -> bool:
    """Whether this client of the proxy gets a WebSocket, which stays open."""
    sock = stack.enter_context(
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0))
    )
    sock.sendall(handshake(f"X-Forwarded-For: {client}\r\n" if client else ""))
    code = answered(sock)
    assert code in (101, 503), code
    return code == 101


@pytest.mark.parametrize("authorize", [None, lambda _request: None], ids=["none", "authorize"])
def test_the_limit_applies_to_each_client_and_is_released(authorize: Authorize | None) -> None:
    """Issue 13, item 22: many clients connect and leave through one proxy; each is counted exactly
    once.
    """
    with behind_loopback(
        max_connections_per_address=2,
        max_connections=40,
        # With authorize(), the acceptor does not read the request; without it, it does.
        authorize=authorize,
    ) as server:
        for _ in range(15):
            with ExitStack() as stack:
                for client in ("192.0.2.1", "192.0.2.2", None):
                    assert [is_let_in(stack, server.port, client) for _ in range(3)] == [
                        True, True, False,
                    ]  # fmt: skip
                # Clients of the proxy and direct clients have limits of their own.
                assert [is_let_in(stack, server.port, "192.0.2.3", "127.0.0.2") for _ in "abc"] == [
                    True, True, False,
                ]  # fmt: skip
                # A plain request takes no place of a client.
                assert shown(server, "X-Forwarded-For: 192.0.2.1\r\n")[0] == "192.0.2.1"
                refused = ask(server.port, handshake("X-Forwarded-For: nonsense\r\n"))
                assert status(refused) == 400
            wait_for(lambda: server.connections == 0)
        assert server.stats().refused == {"503": 60, "400": 15}


def test_a_crowd_of_one_client_takes_no_place_from_the_others() -> None:
    """Issue 13, item 22: a client that is refused for its address takes no place."""
    with (
        behind_loopback(max_connections_per_address=1, max_connections=3) as server,
        ExitStack() as stack,
    ):
        assert is_let_in(stack, server.port, "192.0.2.1")
        # Each refused client counts until it has disconnected.
        assert not any(is_let_in(stack, server.port, "192.0.2.1") for _ in range(10))
        assert is_let_in(stack, server.port, "192.0.2.2")
        assert is_let_in(stack, server.port, "192.0.2.3")
        assert not is_let_in(stack, server.port, "192.0.2.4")
        # A full server still answers plain requests.
        assert shown(server, "X-Forwarded-For: 192.0.2.5:1\r\n")[:2] == ["192.0.2.5", 1]


def test_clients_that_leave_before_their_request_are_not_counted() -> None:
    """Issue 13, item 22: during the request, or before it."""
    with behind_loopback(max_connections_per_address=1) as server:
        for sent in (b"", handshake("X-Forwarded-For: 192.0.2.1\r\n")[:-2]):
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(sent)
        wait_for(lambda: server.connections == 0)
        with ExitStack() as stack:
            assert [is_let_in(stack, server.port, "192.0.2.1") for _ in range(2)] == [True, False]
            assert [is_let_in(stack, server.port, None) for _ in range(2)] == [True, False]


# The flags.


def test_the_flags_of_a_proxy() -> None:
    """Issue 13, item 22: as flags and as variables."""
    flags = ["--public-url", "https://chat.example.org", "--trusted-proxy", "192.0.2.1,127.0.0.0/8"]
    variables = {
        "SYNCCHAT_PUBLIC_URL": "https://chat.example.org",
        "SYNCCHAT_TRUSTED_PROXY": "192.0.2.1 127.0.0.0/8",
    }
    for more, changes in ((flags, {}), ([], variables)):
        with Script([*SERVER, "--port", "0", *more], **changes) as server:
            port = int(server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1])
            headers = "X-Forwarded-For: 192.0.2.7:7\r\nOrigin: https://chat.example.org\r\n"
            with Peer.client(port, headers=headers):
                server.wait_for_line(r"New connection from 192\.0\.2\.7:7")
            assert status(ask(port, request(host="chat.example.org"))) == 200


@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("--public-url", "chat.example.org", "'chat.example.org' is not a public URL"),
        ("--trusted-proxy", "10.0.0.1/8", "'10.0.0.1/8' is not an IP address or a network"),
        ("--trusted-proxy", "::1, proxy", "'proxy' is not an IP address or a network"),
    ],
)
def test_an_invalid_proxy_flag_is_a_usage_error(flag: str, value: str, complaint: str) -> None:
    """Issue 13, item 22: the error names the flag or the variable."""
    variable = f"SYNCCHAT_{flag[2:].replace('-', '_').upper()}"
    by_flag, by_variable = run([*SERVER, flag, value]), run(SERVER, **{variable: value})
    assert (by_flag.returncode, by_variable.returncode) == (2, 2)
    assert f"argument {flag}: {complaint}" in by_flag.stderr
    assert f"argument {flag}: {complaint}" in by_variable.stderr
    assert f"(in {variable})" in by_variable.stderr


def test_an_invalid_proxy_setting_is_a_value_error() -> None:
    """Issue 13, item 22: before the server listens."""
    for settings in ({"public_url": "foo"}, {"trusted_proxies": ["foo"]}):
        with pytest.raises(ValueError, match="'foo' is "):
            serve(discard, **settings)
        with pytest.raises(ValueError, match="'foo' is "):
            ChatServer(port=0, **settings)
