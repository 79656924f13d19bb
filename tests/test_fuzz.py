"""Random input at every door of a real server: it reports no exception, never hangs, and serves on.

With ``--full``, each fuzzer runs for ``--fuzz-seconds``. The seed is printed; SYNCCHAT_SEED repeats
a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from syncchat.chat import events
from syncchat.chat.commands import ALIASES, COMMANDS
from tests.peer import PATIENCE, upgrade_request
from tests.people import Json
from tests.processes import SERVER, ServerScript, run

SEED = int(os.environ.get("SYNCCHAT_SEED", random.SystemRandom().randrange(1 << 32)))

#: Examples of the short run, and of a round of the long one.
FEW, ROUND = 25, 200

EXAMPLES = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

#: Texts of strangers: of every kind, and those that mean something to a server.
WORDS = st.sampled_from(
    [
        "ann",
        "bob",
        "lobby",
        "ops",
        "server",
        "192.0.2.1",
        "192.0.2.0/24",
        "10m",
        "ever",
        "on",
        "0",
        "-1",
        "99999999999999999999",
        "*",
        "../..",
        "%00",
        "-",
        "#ops",
        "A",
        "İ",
        "😀",
        "\u202e",
        "\x1b[2J",
        "\x00",
        "",
        "lobby\x00x",
        "NaN",
        "1e400",
        "for",
        "reason why",
    ]
)
TEXTS = WORDS | st.text(max_size=40) | st.text(min_size=200, max_size=300)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=6,
)


class Target(ServerScript):
    """A server, and the token of one of its operators."""

    def __init__(self, engine: str, token: str) -> None:
        self.token = token
        super().__init__("--engine", engine, "--rate", "0", "--open-timeout", "2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    engine = f"sqlite:{tmp_path_factory.mktemp('fuzz') / 'chat.db'}"
    added = run([*SERVER, "people", "add", "root", "--operator", "--engine", engine])
    with Target(engine, added.stdout.strip()) as script:
        yield script
        script.process.terminate()
        assert script.exit_code() == 0
        assert script.errors == []


@pytest.fixture
def seconds(request: pytest.FixtureRequest, full: bool) -> float:
    return float(request.config.getoption("--fuzz-seconds")) if full else 0


def fuzz(
    server: Target,
    seconds: float,
    examples: st.SearchStrategy[Any],
    attack: Callable[[Target, Any], None],
) -> None:
    """Attack with examples, and see after each round that nothing has failed."""
    print(f"SYNCCHAT_SEED={SEED}")
    deadline = time.monotonic() + seconds
    number = SEED
    while True:

        @seed(number)
        @settings(EXAMPLES, max_examples=ROUND if seconds else FEW)
        @given(examples)
        def one_round(example: Any) -> None:
            attack(server, example)

        one_round()
        serves_the_honest(server)
        assert server.process.poll() is None
        assert server.errors == []
        number += 1
        if time.monotonic() >= deadline:
            return


def serves_the_honest(server: Target) -> None:
    with Json(f"{server.url}honest") as client:
        client.ask(type="say", text="hello")
        assert client.find("message")["text"] == "hello"


def frame(opcode: int, payload: bytes, *, bits: int = 8, length: int | None = None) -> bytes:
    """A client's frame (RFC 6455, 5.2), masked with zeros; ``bits``: FIN and the reserved ones."""
    size = len(payload) if length is None else length
    head = bytes([bits << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size % (1 << 64))
    return head + bytes(4) + payload


CLOSE = frame(8, b"\x03\xe8")


def converse(server: Target, request: bytes, data: bytes) -> None:
    """Send what a connection may hold. The server must end it, and not hang."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(request + data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


# Handshakes.

NAMES = st.sampled_from(
    [
        "Host",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Origin",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Cookie",
        "X-Forwarded-For",
        "Forwarded",
        "Expect",
        "Accept",
    ]
)
HEADER_VALUES = TEXTS | st.sampled_from(
    [
        "websocket",
        "upgrade",
        "13",
        "dGhlIHNhbXBsZSBub25jZQ==",
        "syncchat.v1",
        "chunked",
        "4",
        "syncchat.v1, syncchat.token.x",
        "Bearer x",
        "http://x:99999",
        'permessage-deflate; a="',
    ]
)
TARGETS = st.builds(
    lambda path, query: "/" + quote(path) + query,
    TEXTS,
    st.dictionaries(
        st.sampled_from(["nick", "history", "after", "token", "format", "poll", "wait", "x"]),
        TEXTS,
        max_size=3,
    ).map(lambda query: "?" + "&".join(f"{k}={quote(v)}" for k, v in query.items())),
)
HEADERS = st.lists(st.tuples(NAMES, HEADER_VALUES), max_size=5)


def head(method: str, target: str, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")


def test_handshakes(server: Target, seconds: float) -> None:
    usual = [("Host", "localhost"), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    usual += [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]
    examples = st.tuples(TARGETS, HEADERS, st.sets(st.integers(0, 4), max_size=1))

    def attack(server: Target, example: tuple[str, list[tuple[str, str]], set[int]]) -> None:
        target, more, left_out = example
        headers = [each for number, each in enumerate(usual) if number not in left_out]
        converse(server, head("GET", target, headers + more), CLOSE)

    fuzz(server, seconds, examples, attack)


# Frames.


def test_frames(server: Target, seconds: float) -> None:
    sizes = st.none() | st.sampled_from([0, 125, 126, 65535, 65536, 1 << 31, 1 << 62, 1 << 63])
    frames = st.builds(
        lambda opcode, payload, bits, length: frame(opcode, payload, bits=bits, length=length),
        st.sampled_from([0, 0, 1, 1, 2, 8, 9, 10, 3, 15]),
        st.binary(max_size=130) | TEXTS.map(lambda text: text.encode("utf-8", "replace")),
        st.sampled_from([8, 8, 8, 0, 0, 12, 4]),
        st.one_of(st.none(), st.none(), sizes),
    )

    def attack(server: Target, example: list[bytes]) -> None:
        converse(server, upgrade_request(), b"".join(example) + CLOSE)

    fuzz(server, seconds, st.lists(frames, max_size=8), attack)


# Both dialects.


def say(server: Target, lines: Sequence[str], *headers: str) -> None:
    data = b"".join(frame(1, line.encode("utf-8", "replace")) for line in lines)
    bearer = f"Authorization: Bearer {server.token}\r\n"
    request = upgrade_request("/lobby", bearer + "".join(f"{each}\r\n" for each in headers))
    converse(server, request, data + CLOSE)


def test_json_events(server: Target, seconds: float) -> None:
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(events.FromClient)}

    def event_of(tag: str) -> st.SearchStrategy[str]:
        members = [field.encode_name for field in msgspec.structs.fields(kinds[tag])]
        likely = {name: TEXTS | st.integers(-1, 2000) | VALUES for name in members}
        return st.fixed_dictionaries({"type": st.just(tag)}, optional=likely).map(json.dumps)

    one = st.sampled_from(sorted(kinds)).flatmap(event_of)
    other = VALUES.map(json.dumps) | st.text(max_size=30)

    def attack(server: Target, example: list[str]) -> None:
        say(server, example, "Sec-WebSocket-Protocol: syncchat.v1")

    fuzz(server, seconds, st.lists(st.one_of(one, one, one, other), max_size=8), attack)


def test_commands(server: Target, seconds: float) -> None:
    name = st.sampled_from([*COMMANDS, *ALIASES, "", "x"]) | TEXTS
    line = st.builds(
        lambda slash, command, words: f"{slash}{command} {' '.join(words)}",
        st.sampled_from(["/", "/", "//", ""]),
        name,
        st.lists(TEXTS, max_size=3),
    )

    def attack(server: Target, example: list[str]) -> None:
        say(server, example)

    fuzz(server, seconds, st.lists(line, max_size=8), attack)


# Plain HTTP.


def test_http_requests(server: Target, seconds: float) -> None:
    more = st.sampled_from(
        [
            ("Idempotency-Key", "k"),
            ("Last-Event-ID", "e:1"),
            ("Accept", "text/event-stream"),
            ("Accept", "application/x-ndjson"),
            ("Connection", "close"),
            ("Expect", "100-continue"),
        ]
    )
    examples = st.tuples(
        st.sampled_from(["GET", "POST", "POST", "HEAD", "PUT", "OPTIONS", "get", "X Y"]),
        TARGETS | st.sampled_from(["/healthz", "/metrics", "/-/app.js", "/-/auth", "*", "//x", ""]),
        HEADERS,
        st.lists(more, max_size=2),
        st.binary(max_size=60) | TEXTS.map(lambda text: text.encode("utf-8", "replace")),
        st.sampled_from(["length", "wrong", "chunked", "none"]),
    )

    def attack(server: Target, example: tuple[Any, ...]) -> None:
        method, target, headers, others, body, framing = example
        announced = {
            "length": [("Content-Length", str(len(body)))],
            "wrong": [("Content-Length", str(len(body) + 3))],
            "chunked": [("Transfer-Encoding", "chunked")],
            "none": [],
        }[framing]
        if framing == "chunked":
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        request = head(method, target, [("Host", "localhost"), *announced, *others, *headers])
        converse(server, request, body)

    fuzz(server, seconds, examples, attack)
