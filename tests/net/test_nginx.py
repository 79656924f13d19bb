"""Behind a real nginx."""

from __future__ import annotations

import re
import ssl
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as other_librarys_connect

from syncchat import ChatServer
from syncchat.net import Refusal, Request, Response
from tests.documents import DOCS, blocks_of
from tests.nginx import Nginx, needs_nginx
from tests.peer import PATIENCE, read_all, wait_for
from tests.raw_http import answered, handshake, request, status

PUBLIC = "http://chat.example.org"


# With a real nginx.

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
    """Issue 13, item 22: the page and its WebSocket, if nginx forwards the public host."""
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
            assert re.fullmatch(r"127\.0\.0\.2:\d+: hello", str(ann.recv(PATIENCE)))
            # Without a greeting, a client knows that it is in the room when it gets its own
            # message.
            bob.send("hi")
            answer = str(ann.recv(PATIENCE))
            assert re.fullmatch(r"127\.0\.0\.3:\d+: hi", answer)
            while answer != bob.recv(PATIENCE):
                pass
            ann.send("and you?")
            assert re.fullmatch(r"127\.0\.0\.2:\d+: and you\?", str(bob.recv(PATIENCE)))


@needs_nginx
@pytest.mark.parametrize("host", ["", "proxy_set_header Host $http_host;",
                                  "proxy_set_header X-Forwarded-Host $http_host;"])  # fmt: skip
def test_behind_nginx_at_a_path_of_its_own(tmp_path: Path, host: str) -> None:
    """Issue 13, item 22: nginx removes the path and forwards either host."""
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
def test_behind_nginx_clients_cannot_forge_their_address(tmp_path: Path) -> None:
    """Issue 13, item 22: forwarding headers that a client sends are ignored."""
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
    # Without a trusted proxy, every client has the proxy's address.
    lines.clear()
    with (
        ChatServer(port=0, origins=[PUBLIC], log=lines.append) as chat,
        Nginx(tmp_path, site(chat.port)) as nginx,
        join(nginx, "ws://chat.example.org/", "127.0.0.2"),
    ):
        wait_for(lambda: any(line.startswith("New connection from 127.0.0.1:") for line in lines))


@needs_nginx
def test_behind_nginx_limits_apply_to_each_client(tmp_path: Path) -> None:
    """Issue 13, item 22: each client of a proxy has a limit of its own, and leaving frees its
    place.
    """
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


def recipe() -> str:
    """The configuration of nginx for one server that the documentation has."""
    (block,) = (b for b in blocks_of(DOCS / "operations.md") if b.language == "nginx")
    return block.text


@needs_nginx
def test_behind_nginx_with_tls_as_documented(tmp_path: Path) -> None:
    """Issue 13, item 22: nginx terminates TLS; address, scheme and origin are those of the
    client.
    """
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
