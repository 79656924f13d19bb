"""The files and commands of docs/scale-out.md, with real proxies and a real Redis."""

from __future__ import annotations

import re
import shlex
import signal
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from syncchat import Client, Gap
from syncchat.chat.events import Message, Welcome
from tests.documents import DOCS, blocks_of
from tests.haproxy import HAProxy
from tests.nginx import Nginx, needs_nginx
from tests.peer import PATIENCE, wait_for
from tests.people import Plain
from tests.processes import SERVER, ServerScript, run
from tests.redis_server import RedisProcess

PAGE = DOCS / "scale-out.md"

#: The addresses and files of the document.
NODES = ("10.0.0.11:2000", "10.0.0.12:2000")
CERTIFICATE = "/etc/ssl/chat.pem"


def block(language: str, containing: str = "") -> str:
    (text,) = (b.text for b in blocks_of(PAGE) if b.language == language and containing in b.text)
    return text


def as_run(text: str, nodes: list[ServerScript], certificate: Path) -> str:
    """A file of the document with the addresses and the certificate of this run."""
    for paper, node in zip(NODES, nodes, strict=True):
        assert paper in text
        text = text.replace(paper, f"127.0.0.1:{node.port}")
    assert CERTIFICATE in text
    return text.replace(CERTIFICATE, str(certificate))


@contextmanager
def two_nodes(*flags: str) -> Iterator[list[ServerScript]]:
    """Two nodes with the flags of the document."""
    (command,) = (
        line
        for line in block("text", "--trusted-proxy").splitlines()
        if line.startswith("syncchat-server ")
    )
    words = [*shlex.split(command)[1:], *flags]
    with RedisProcess() as redis, ExitStack() as stack:
        words[words.index("--engine") + 1] = redis.url
        words[words.index("--host") + 1] = "127.0.0.1"
        words[words.index("--trusted-proxy") + 1] = "127.0.0.1"
        yield [stack.enter_context(ServerScript(*words)) for _ in NODES]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    authority = trustme.CA()
    path = tmp_path / "chat.pem"
    issued = authority.issue_cert("localhost", "chat.example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return path, context


def check_two_nodes(port: int, nodes: list[ServerScript], context: ssl.SSLContext) -> None:
    """Clients of both nodes are in one room, and those of a node that ends go to the other."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                Client(f"wss://localhost:{port}/ops", nick=f"n{number}", ssl_context=context)
            )
            for number in range(8)
        ]
        for client in clients:
            while not isinstance(client.receive(PATIENCE), Welcome):
                pass
        # The least connections: the clients are on both.
        for node in nodes:
            wait_for(lambda n=node: sum("New connection" in line for line in n.lines) >= 2)  # type: ignore[misc]
        heard: dict[int, list[Message]] = {number: [] for number in range(8)}

        def hear(last: int) -> None:
            for number, client in enumerate(clients):
                while not heard[number] or heard[number][-1].offset < last:
                    event = client.receive(2 * PATIENCE)
                    assert not isinstance(event, Gap)
                    if isinstance(event, Message):
                        heard[number].append(event)

        for client in clients:
            client.say("hello")
        hear(8)
        nodes[0].signal(signal.SIGKILL)
        for client in clients:
            client.say("still here")
        hear(16)
        for each in heard.values():
            assert [message.offset for message in each] == list(range(1, 17))
            assert each == heard[0]


@needs_nginx
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_nodes_behind_nginx_as_documented(
    tmp_path: Path, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    path, context = certificate
    with two_nodes() as nodes:
        config = as_run(block("nginx"), nodes, path)
        assert "listen 443 ssl;" in config
        config = config.replace("listen 443 ssl;", "listen {listen} ssl;")
        with Nginx(tmp_path, config) as nginx:
            check_two_nodes(nginx.port, nodes, context)
            assert any(re.fullmatch(r"Received from 127\.0\.0\.1:\d+: hello", x)
                       for node in nodes for x in node.lines)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_nodes_behind_haproxy_as_documented(
    tmp_path: Path, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    path, context = certificate
    with two_nodes() as nodes:
        with HAProxy(tmp_path, as_run(block("haproxy"), nodes, path)) as haproxy:
            check_two_nodes(haproxy.port, nodes, context)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_haproxy_takes_out_a_node_that_has_lost_redis(
    tmp_path: Path, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    path, context = certificate
    check = block("text", "http-check").replace("TOKEN", "s3cret")
    flags = ["--token", "s3cret", "--trusted-proxy", "127.0.0.1"]
    with (
        RedisProcess() as redis,
        RedisProcess() as lost,
        ServerScript("--engine", redis.url, *flags) as good,
        ServerScript("--engine", lost.url, *flags) as bad,
    ):
        lost.kill()
        config = as_run(block("haproxy"), [good, bad], path)
        config += "".join(f"    {line}\n" for line in check.splitlines())
        url = "wss://localhost:{port}/"
        with HAProxy(tmp_path, config) as haproxy, ExitStack() as stack:
            # Until the first check, a node counts as healthy.
            wait_for(lambda: "is DOWN" in haproxy.log(), "the check")
            for _ in range(6):
                client = Client(url.format(port=haproxy.port), token="s3cret", ssl_context=context)
                stack.enter_context(client)
                while not isinstance(client.receive(PATIENCE), Welcome):
                    pass
            wait_for(lambda: sum("New connection" in line for line in good.lines) == 6)
            assert not any("New connection" in line for line in bad.lines)


def test_the_move_from_sqlite_works_as_documented(tmp_path: Path) -> None:
    text = block("text", "syncchat-server export chat.jsonl")
    database = f"sqlite:{tmp_path / 'chat.db'}"
    with ServerScript("--engine", database) as server, Client(server.url, nick="ann") as ann:
        ann.say("hello")
        ann.flush(PATIENCE)
    with RedisProcess() as redis:
        for paper, real in [
            ("redis://10.0.0.5:6379/0", redis.url),
            ("sqlite:chat.db", database),
            ("chat.jsonl", str(tmp_path / "chat.jsonl")),
        ]:
            text = text.replace(paper, real)
        for line in text.splitlines():
            command, *words = shlex.split(line)
            assert command == "syncchat-server"
            result = run([*SERVER, *words])
            assert result.returncode == 0, result.stderr
        with ServerScript("--engine", redis.url) as server:
            with Plain(f"{server.url}?history=5") as bob:
                assert "ann: hello" in bob.hear_until("ann: hello")
