"""In a network namespace: the network fails, and returns while a client pauses."""

from __future__ import annotations

import fcntl
import itertools
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from syncchat import ChatServer, Client, Disconnected
from syncchat.chat.events import Welcome
from syncchat.client import protocol
from tests.people import cut

#: An unreachable address, reserved for documentation (RFC 5737).
ADDRESS = "192.0.2.1"
SET_FLAGS, SET_ADDRESS, UP = 0x8914, 0x8916, 1


def configure(request: int, interface: bytes, value: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, request, struct.pack("16s16s", interface, value))


def set_network(*, up: bool) -> None:
    if up:
        address = struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
        configure(SET_ADDRESS, b"lo:1", address)
    else:
        configure(SET_FLAGS, b"lo:1", struct.pack("H", 0))


def main() -> int:
    configure(SET_FLAGS, b"lo", struct.pack("H", UP))
    set_network(up=True)
    # Every delay has its maximum.
    vars(protocol)["delays"] = lambda _: itertools.repeat(30.0)
    with ChatServer(ADDRESS, port=0) as chat, Client(f"ws://{ADDRESS}:{chat.port}/") as client:
        while not isinstance(client.receive(10), Welcome):
            pass
        set_network(up=False)
        cut(client)
        while not isinstance(client.receive(10), Disconnected):
            pass
        time.sleep(1.5)
        set_network(up=True)
        begin = time.monotonic()
        while not isinstance(client.receive(10), Welcome):
            pass
        took = time.monotonic() - begin
    print(f"back after {took:.2f} s")
    return 0 if took < 5 else 1


sys.exit(main())
