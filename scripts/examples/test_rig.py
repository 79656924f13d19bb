"""A test rig that streams its measurements in binary: python test_rig.py [PORT].

A sample is 12 bytes: its number, and two channels as 32-bit floats. The rig sends 100 samples in a
message, to any number of viewers. A viewer that is too slow is closed, and the rig never waits.
A viewer in Python is below; in a browser, a DataView reads the same bytes.
"""

from __future__ import annotations

import math
import struct
import sys
import threading
from collections.abc import Iterator

from syncchat.net import Group, WebSocket, connect, serve

SAMPLE = struct.Struct("<Iff")
RATE, BATCH = 1000, 100

viewers = Group()


def handler(websocket: WebSocket) -> None:
    viewers.add(websocket)
    for command in websocket:
        # The rig is controlled by text, and measures in binary.
        if command == "stop":
            stop.set()


def measure(number: int) -> tuple[float, float]:
    """Read both channels; here they are computed."""
    moment = number / RATE
    return math.sin(2 * math.pi * moment), math.cos(2 * math.pi * moment)


def stream() -> None:
    number = 0
    while not stop.wait(BATCH / RATE):
        batch = range(number, number + BATCH)
        viewers.send(b"".join(SAMPLE.pack(each, *measure(each)) for each in batch))
        number += BATCH


def samples(url: str) -> Iterator[tuple[int, float, float]]:
    """The samples of a rig, for a viewer."""
    with connect(url) as websocket:
        for message in websocket:
            assert isinstance(message, bytes)
            yield from SAMPLE.iter_unpack(message)


stop = threading.Event()

if __name__ == "__main__":
    with serve(handler, port=int(sys.argv[1]) if len(sys.argv) > 1 else 2000) as server:
        print(f"streaming on ws://127.0.0.1:{server.port}/", flush=True)
        stream()
