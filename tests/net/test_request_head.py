"""The head of a request is parsed the same, whether it is a usual one or not."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from syncchat.net import Refusal, Request
from syncchat.net.http_head import parse
from tests.peer import upgrade_request

ADDRESS = ("192.0.2.1", 4000)

HEADS = [
    upgrade_request("/room?nick=ann", "Origin: http://test\r\nX-Y: a b\r\n"),
    b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nCookie: a=b; c\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
    b"GET /%20 HTTP/1.1\r\nhost: [::1]:80\r\nTransfer-Encoding: chunked\r\nX: 1\r\nx: 2\r\n\r\n",
]

#: Parts that a mutation inserts: what separates, doubles or spoils a header.
PARTS = [
    *(bytes([byte]) for byte in b' \t\r\n\0:;,/"%aA0\x7f\x80\xff'),
    b"\r\n",
    b": ",
    b"Host: other\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b" HTTP/1.1",
    b"http://test/",
]


def mutated(chance: random.Random) -> bytes:
    head = bytearray(chance.choice(HEADS))
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(head))
        match chance.randrange(4):
            case 0:
                head[at:at] = chance.choice(PARTS)
            case 1:
                head[at : at + 1] = chance.choice(PARTS)
            case 2:
                del head[at : at + chance.randrange(1, 12)]
            case _:
                end = at + chance.randrange(1, 40)
                head[end:end] = head[at:end]
    return bytes(head)


#: The end of a head. Group 1 is its empty line.
END = re.compile(rb"\n(\r?\n)")

#: A header without a blank before its value, which makes any head unusual.
MARK = b"Mark:1\r\n"


def parsed_by_h11(head: bytes) -> Request | str:
    """The result of the same head with one more header, which is removed from the result."""
    found = parsed(END.sub(lambda end: b"\n" + MARK + end[1], head))
    if isinstance(found, str):
        return found
    assert found.raw_headers[-1] == (b"mark", b"1")
    return replace(found, raw_headers=found.raw_headers[:-1])


def parsed(head: bytes) -> Request | str:
    try:
        return parse(head, ADDRESS)
    except Refusal as refusal:
        return str(refusal)


@pytest.mark.slow
def test_mutated_heads_are_parsed_as_by_h11(*, full: bool) -> None:
    chance = random.Random(15)
    accepted = 0
    for _ in range(100_000 if full else 5_000):
        head = mutated(chance)
        end = END.search(head)
        if end is None:
            continue
        head = head[: end.end()]
        found = parsed(head)
        assert found == parsed_by_h11(head), head
        accepted += isinstance(found, Request)
    # The mutations are mild enough to test both outcomes.
    assert accepted > (10_000 if full else 500)


@pytest.mark.parametrize(
    "headers",
    [
        b"Host: test\r\nHost: test\r\n",
        b"X: y\r\n",
        b"Host: test\r\nContent-Length: 1, 2\r\n",
        b"Host: test\r\nTransfer-Encoding: gzip\r\n",
        b"Host: test\r\nX: y\0\r\n",
        b"Host: test\r\nX : y\r\n",
    ],
    ids=repr,
)
def test_a_head_that_h11_refuses_is_refused(headers: bytes) -> None:
    head = b"GET / HTTP/1.1\r\n" + headers + b"\r\n"
    assert parsed(head) == parsed_by_h11(head)
    assert isinstance(parsed(head), str)
