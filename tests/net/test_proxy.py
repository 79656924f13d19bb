"""Behind a proxy: the address of the client, whose host is welcome, and caps that stay exact."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as other_librarys_connect
from wsproto.events import TextMessage

from syncchat import ChatServer
from syncchat.net import Refusal, Request, Response, Server, WebSocket, serve
from syncchat.net.access_policy import Authorize
from tests.nginx import Nginx, needs_nginx
from tests.peer import PATIENCE, Peer, read_all, upgrade_request, wait_for
from tests.processes import ROOT, SERVER, Script, run

PUBLIC = "http://chat.example.org"


def request(
    path: str = "/", headers: str = "", host: str = "localhost", method: str = "GET"
) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode()


def handshake(headers: str = "", host: str = "localhost", path: str = "/") -> bytes:
    return upgrade_request(path, headers).replace(b"Host: test", f"Host: {host}".encode())


def ask(port: int, data: bytes, source: str = "127.0.0.1") -> bytes:
    """The whole answer to a request from that address."""
    with socket.create_connection(
        ("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0)
    ) as sock:
        sock.sendall(data)
        return read_all(sock)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def answered(sock: socket.socket) -> int:
    """The status of an answer to a handshake."""
    return status(sock.recv(65536))


# Without a proxy: what is said in its name.


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
    """A server that trusts one address of this machine's, and shows what it makes of a request."""
    with serve(
        discard, trusted_proxies=["127.0.0.1"], routes={"/show": show}, **settings
    ) as server:
        yield server


def test_a_trusted_proxy_tells_address_scheme_and_host() -> None:
    """Issue 13, item 22: and the port is the proxy's own where it tells none."""
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


def test_what_was_asked_by_tls_is_https() -> None:
    """Issue 13, item 22: of the server itself, and of a proxy that says so or does not."""
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


def test_nobody_else_is_believed() -> None:
    """Issue 13, item 22: the headers of an address that is not trusted count for nothing."""
    claim = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n"
    with behind_loopback() as server:
        told = shown(server, claim, source="127.0.0.2")
        assert (told[0], *told[2:]) == ("127.0.0.2", "http", "localhost")
        assert shown(server, "X-Forwarded-For: nonsense\r\n", "127.0.0.2")[0] == "127.0.0.2"
    with serve(discard, routes={"/show": show}) as server:
        assert shown(server, claim)[0] == "127.0.0.1"
    # With a public URL this machine is trusted, unless somebody else is.
    with serve(discard, public_url=PUBLIC, routes={"/show": show}) as server:
        assert shown(server, claim)[0] == "192.0.2.1"
    with serve(
        discard, public_url=PUBLIC, trusted_proxies=["192.0.2.9"], routes={"/show": show}
    ) as server:
        assert shown(server, claim)[0] == "127.0.0.1"


def test_a_proxy_that_tells_no_client_is_400() -> None:
    """Issue 13, item 22: nonsense from a trusted proxy is refused with the reason."""
    with behind_loopback() as server:
        for headers, reason in [
            ("X-Forwarded-For: nonsense\r\n", b"'nonsense' is no address."),
            ("Forwarded: for=\r\n", b"'for=' is no Forwarded header."),
            (
                "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n",
                b"Forwarded and X-Forwarded-For name different clients.",
            ),
        ]:
            for data in (request("/show", headers), handshake(headers)):
                answer = ask(server.port, data)
                assert status(answer) == 400
                assert answer.endswith(
                    b"The proxy's forwarding headers are wrong: " + reason + b"\n"
                )


def test_the_public_urls_host_is_welcome_and_no_other() -> None:
    """Issue 13, item 22: on loopback, by the public URL or an allowed origin; and its pages are."""
    with ChatServer(
        port=0, public_url=f"{PUBLIC}:8080/chat/", origins=["https://other.example"]
    ) as chat:
        for host, origin in [
            ("chat.example.org", f"{PUBLIC}:8080"),
            ("chat.example.org:8080", f"{PUBLIC}:8080"),
            ("CHAT.example.org", "https://other.example"),
            ("other.example", f"{PUBLIC}:8080"),
            # A proxy that passes no Host on.
            (f"127.0.0.1:{chat.port}", f"{PUBLIC}:8080"),
        ]:
            assert status(ask(chat.port, request(host=host))) == 200
            with socket.create_connection(("127.0.0.1", chat.port), timeout=PATIENCE) as sock:
                sock.sendall(handshake(f"Origin: {origin}\r\n", host))
                assert answered(sock) == 101
        for host, headers in [
            ("evil.example", ""),
            # A page whose name is resolved anew can send this along.
            ("evil.example", "X-Forwarded-Host: chat.example.org\r\n"),
            ("localhost", "X-Forwarded-Host: evil.example\r\n"),
        ]:
            answer = ask(chat.port, request(host=host, headers=headers))
            assert status(answer) == 403
            assert b"set its public URL (--public-url)" in answer
            assert status(ask(chat.port, handshake(headers, host))) == 403
        answer = ask(chat.port, handshake("Origin: https://evil.example\r\n", "chat.example.org"))
        assert status(answer) == 403
        assert b"Allow it (--origin), or set the public URL" in answer


def test_health_is_never_local_through_a_proxy() -> None:
    """Issue 13, item 22: whatever address the proxy tells."""
    with ChatServer(port=0, public_url=PUBLIC) as chat:
        for path in ("/healthz", "/metrics"):
            assert status(ask(chat.port, request(path))) == 200
            for client in ("127.0.0.1", "::1", "192.0.2.1"):
                headers = f"X-Forwarded-For: {client}\r\n"
                assert status(ask(chat.port, request(path, headers))) == 403


def test_the_log_has_the_clients_address() -> None:
    """Issue 13, item 22: for those who come, go, and are refused, and in what they say."""
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
        assert status(ask(chat.port, post)) == 405
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


# Caps.


def is_let_in(stack: ExitStack, port: int, client: str | None, source: str = "127.0.0.1") -> bool:
    """Whether such a client of the proxy's gets its WebSocket, which stays open."""
    sock = stack.enter_context(
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0))
    )
    sock.sendall(handshake(f"X-Forwarded-For: {client}\r\n" if client else ""))
    code = answered(sock)
    assert code in (101, 503), code
    return code == 101


@pytest.mark.parametrize("authorize", [None, lambda _request: None], ids=["none", "authorize"])
def test_the_cap_is_each_clients_own_and_free_again(authorize: Authorize | None) -> None:
    """Issue 13, item 22: many come and go by one proxy, and nobody is counted twice or for ever."""
    with behind_loopback(
        max_connections_per_address=2,
        max_connections=40,
        # With it the acceptor does not read the request, without it does.
        authorize=authorize,
    ) as server:
        for _ in range(15):
            with ExitStack() as stack:
                for client in ("192.0.2.1", "192.0.2.2", None):
                    assert [is_let_in(stack, server.port, client) for _ in range(3)] == [
                        True, True, False,
                    ]  # fmt: skip
                # The proxy's own clients are its own, and so are those who come directly.
                assert [is_let_in(stack, server.port, "192.0.2.3", "127.0.0.2") for _ in "abc"] == [
                    True, True, False,
                ]  # fmt: skip
                # What is no WebSocket takes nobody's place.
                assert shown(server, "X-Forwarded-For: 192.0.2.1\r\n")[0] == "192.0.2.1"
                refused = ask(server.port, handshake("X-Forwarded-For: nonsense\r\n"))
                assert status(refused) == 400
            wait_for(lambda: server.connections == 0)
            assert not server._per_host
            assert server._served == 0
        assert server.stats().refused == {"503": 60, "400": 15}


def test_a_crowd_of_one_client_takes_no_place_from_the_others() -> None:
    """Issue 13, item 22: whoever is refused for its address does not fill the server."""
    with (
        behind_loopback(max_connections_per_address=1, max_connections=3) as server,
        ExitStack() as stack,
    ):
        assert is_let_in(stack, server.port, "192.0.2.1")
        # Each is being told so, and stays until it has hung up.
        assert not any(is_let_in(stack, server.port, "192.0.2.1") for _ in range(10))
        assert is_let_in(stack, server.port, "192.0.2.2")
        assert is_let_in(stack, server.port, "192.0.2.3")
        assert not is_let_in(stack, server.port, "192.0.2.4")
        # A server that is full still shows what it shows, and to whom.
        assert shown(server, "X-Forwarded-For: 192.0.2.5:1\r\n")[:2] == ["192.0.2.5", 1]


def test_clients_that_leave_before_they_ask_leave_no_count() -> None:
    """Issue 13, item 22: in the middle of the request, or before it."""
    with behind_loopback(max_connections_per_address=1) as server:
        for sent in (b"", handshake("X-Forwarded-For: 192.0.2.1\r\n")[:-2]):
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(sent)
        wait_for(lambda: server.connections == 0)
        assert not server._per_host
        assert server._served == 0


# The real nginx.

_PROXY = """
        proxy_pass http://127.0.0.1:{port}/;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
"""
_SITE = """
    map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    server {
        listen {listen};
        location {path} {
{proxy}{more}
        }
    }
"""


def site(port: int, path: str = "/", more: str = "proxy_set_header Host $http_host;") -> str:
    proxy = _PROXY.replace("{port}", str(port))
    return _SITE.replace("{path}", path).replace("{proxy}", proxy).replace("{more}", more)


def join(nginx: Nginx, url: str, source: str = "127.0.0.1", **more: Any) -> ClientConnection:
    """Another library's WebSocket to a public URL, which leads to nginx."""
    sock = nginx.connect(source)
    joined: ClientConnection = other_librarys_connect(url, sock=sock, compression=None, **more)
    return joined


def fetch(
    nginx: Nginx, path: str, host: str, source: str = "127.0.0.1", headers: str = ""
) -> bytes:
    with nginx.connect(source) as sock:
        sock.sendall(request(path, f"Connection: close\r\n{headers}", host))
        return read_all(sock)


@needs_nginx
def test_behind_nginx_with_a_public_name(tmp_path: Path) -> None:
    """Issue 13, item 22: the page and its WebSocket, where nginx passes on the public host."""
    with (
        ChatServer(port=0, public_url=PUBLIC, greeting="", notices=False) as chat,
        Nginx(tmp_path, site(chat.port)) as nginx,
    ):
        page = fetch(nginx, "/", "chat.example.org")
        assert status(page) == 200
        assert b"connect-src 'self' ws://chat.example.org wss://chat.example.org;" in page
        assert status(fetch(nginx, "/-/app.js", "chat.example.org")) == 200
        assert status(fetch(nginx, "/healthz", "chat.example.org")) == 403
        assert status(fetch(nginx, "/", "evil.example")) == 403
        with (
            join(nginx, "ws://chat.example.org/", "127.0.0.2", origin=PUBLIC) as ann,
            join(nginx, "ws://chat.example.org/", "127.0.0.3", origin=PUBLIC) as bob,
        ):
            ann.send("hello")
            said = ann.recv(PATIENCE)
            assert isinstance(said, str)
            assert re.fullmatch(r"127\.0\.0\.2:\d+: hello", said)
            bob.send("hi")
            while said != bob.recv(PATIENCE):
                pass
            answer = ann.recv(PATIENCE)
            assert isinstance(answer, str)
            assert re.fullmatch(r"127\.0\.0\.3:\d+: hi", answer)


@needs_nginx
@pytest.mark.parametrize("host", ["", "proxy_set_header Host $http_host;",
                                  "proxy_set_header X-Forwarded-Host $http_host;"])  # fmt: skip
def test_behind_nginx_at_a_path_of_its_own(tmp_path: Path, host: str) -> None:
    """Issue 13, item 22: nginx cuts the path off, whichever host it passes on."""
    public = "http://example.org/chat/"
    with (
        ChatServer(port=0, public_url=public, greeting="", notices=False) as chat,
        Nginx(tmp_path, site(chat.port, "/chat/", host)) as nginx,
    ):
        assert status(fetch(nginx, "/chat/", "example.org")) == 200
        assert status(fetch(nginx, "/chat/ops", "example.org")) == 200
        assert status(fetch(nginx, "/chat/-/app.js", "example.org")) == 200
        assert status(fetch(nginx, "/", "example.org")) == 404
        url = "ws://example.org/chat/ops?nick=ann"
        with join(nginx, url, origin="http://example.org") as ann:
            ann.send("hello")
            assert ann.recv(PATIENCE) == "ann: hello"
            ann.send("/rooms")
            assert ann.recv(PATIENCE) == "-> 1 room: ops (1)"


@needs_nginx
def test_behind_nginx_nobody_lends_an_address(tmp_path: Path) -> None:
    """Issue 13, item 22: what a client says of itself counts for nothing, in either header."""
    lines: list[str] = []
    with (
        ChatServer(
            port=0, public_url=PUBLIC, trusted_proxies=["127.0.0.1"], log=lines.append
        ) as chat,
        Nginx(tmp_path, site(chat.port)) as nginx,
    ):
        claim = {"X-Forwarded-For": "6.6.6.6, 127.0.0.1"}
        with join(nginx, "ws://chat.example.org/", "127.0.0.2", additional_headers=claim):
            wait_for(lambda: any(line.startswith("New connection from ") for line in lines))
        assert any(re.fullmatch(r"New connection from 127\.0\.0\.2:\d+", line) for line in lines)
        forwarded = fetch(nginx, "/", "chat.example.org", "127.0.0.2", "Forwarded: for=6.6.6.6\r\n")
        assert status(forwarded) == 400
    # Without a proxy that is trusted, everybody is the proxy.
    lines.clear()
    with (
        ChatServer(port=0, origins=[PUBLIC], log=lines.append) as chat,
        Nginx(tmp_path, site(chat.port)) as nginx,
        join(nginx, "ws://chat.example.org/", "127.0.0.2"),
    ):
        wait_for(lambda: any(line.startswith("New connection from 127.0.0.1:") for line in lines))


@needs_nginx
def test_behind_nginx_caps_are_each_clients_own(tmp_path: Path) -> None:
    """Issue 13, item 22: two clients of one proxy, each with its cap, which is free again."""
    with (
        ChatServer(port=0, public_url=PUBLIC, max_connections_per_address=2) as chat,
        Nginx(tmp_path, site(chat.port)) as nginx,
    ):
        for _ in range(5):
            with ExitStack() as stack:
                for source in ("127.0.0.2", "127.0.0.3"):
                    for expected in (101, 101, 503):
                        sock = stack.enter_context(nginx.connect(source))
                        sock.sendall(handshake(host="chat.example.org"))
                        assert answered(sock) == expected
                    assert status(fetch(nginx, "/", "chat.example.org", source)) == 200
            wait_for(lambda: chat.stats().connections == 0)
            assert chat._server is not None
            assert not chat._server._per_host


def recipe() -> str:
    """The configuration of nginx that the documentation has."""
    texts = [path.read_text("utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]]
    return re.search("```nginx\n(.*?)```", "\n".join(texts), re.DOTALL)[1]  # type: ignore[index]


@needs_nginx
def test_behind_nginx_with_tls_as_the_documentation_has_it(tmp_path: Path) -> None:
    """Issue 13, item 22: nginx ends TLS; address, scheme and origin are the client's."""
    authority = trustme.CA()
    both = tmp_path / "both.pem"
    cert = authority.issue_cert("chat.example.org")
    cert.private_key_and_cert_chain_pem.write_to_path(both)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    schemes: list[str] = []

    def scheme(asked: Request) -> Response:
        schemes.append(asked.scheme)
        raise Refusal(HTTPStatus.NOT_FOUND, "")

    lines: list[str] = []
    public = "https://chat.example.org"
    with ChatServer(
        port=0, public_url=public, log=lines.append, routes={"/scheme": scheme}
    ) as chat:
        config = recipe().replace("127.0.0.1:2000", f"127.0.0.1:{chat.port}")
        config = re.sub(r"(ssl_certificate(?:_key)?) .*;", rf"\1 {both};", config)
        config = re.sub(r"listen .*;", "listen {listen} ssl;", config)
        with Nginx(tmp_path, config) as nginx:
            with join(
                nginx, "wss://chat.example.org/?nick=ann", "127.0.0.2", ssl=context, origin=public
            ) as ann:
                assert str(ann.recv(PATIENCE)).startswith("Welcome")
            assert any(re.fullmatch(r"New connection from 127\.0\.0\.2:\d+", it) for it in lines)
            with context.wrap_socket(nginx.connect(), server_hostname="chat.example.org") as sock:
                sock.sendall(request("/scheme", "Connection: close\r\n", "chat.example.org"))
                assert status(read_all(sock)) == 404
    assert schemes == ["https"]


# The flags.


def test_the_flags_of_a_proxy() -> None:
    """Issue 13, item 22: as flags, and as variables."""
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
        ("--public-url", "chat.example.org", "'chat.example.org' is no public URL"),
        ("--trusted-proxy", "10.0.0.1/8", "'10.0.0.1/8' is neither an IP address nor a network"),
        ("--trusted-proxy", "::1, proxy", "'proxy' is neither an IP address nor a network"),
    ],
)
def test_a_mistake_in_the_flags_of_a_proxy_is_a_usage_error(
    flag: str, value: str, complaint: str
) -> None:
    """Issue 13, item 22: at the start, with the flag or the variable."""
    variable = f"SYNCCHAT_{flag[2:].replace('-', '_').upper()}"
    by_flag, by_variable = run([*SERVER, flag, value]), run(SERVER, **{variable: value})
    assert (by_flag.returncode, by_variable.returncode) == (2, 2)
    assert f"argument {flag}: {complaint}" in by_flag.stderr
    assert f"argument {flag}: {complaint}" in by_variable.stderr
    assert f"(in {variable})" in by_variable.stderr


def test_a_mistake_in_the_librarys_settings_is_a_value_error() -> None:
    """Issue 13, item 22: before anything listens."""
    for settings in ({"public_url": "foo"}, {"trusted_proxies": ["foo"]}):
        with pytest.raises(ValueError, match="'foo' is "):
            serve(discard, **settings)
        with pytest.raises(ValueError, match="'foo' is "):
            ChatServer(port=0, **settings)
