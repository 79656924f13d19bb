#!/usr/bin/env python3
"""Measures the time from the server's ``say`` to the bytes on a real terminal.

``scripts/delay.py`` needs ``pip install '.[test]'``; it takes ten seconds.
"""

from __future__ import annotations

import select
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pexpect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from syncchat import ChatServer  # noqa: E402

#: The number of measured messages, the seconds between two, and the lines of noise per second.
COUNT, PAUSE, NOISE = 40, 0.1, 300


def main() -> int:
    """Print the delays in a quiet and in a noisy room."""
    with ChatServer(port=0, greeting="", rate=0) as chat:
        command = [str(ROOT / "scripts" / "client.py"), f"127.0.0.1:{chat.port}"]
        child: pexpect.spawn[Any] = pexpect.spawn(sys.executable, command, dimensions=(24, 80))
        try:
            child.expect("connected", timeout=10)
            print("quiet:", figures([delay(chat, child, n) for n in range(COUNT)]))
            stop = threading.Event()
            noise = threading.Thread(target=make_noise, args=(chat, stop), name="noise")
            noise.start()
            try:
                delays = [delay(chat, child, n) for n in range(COUNT, 2 * COUNT)]
            finally:
                stop.set()
                noise.join()
            print(f"{NOISE} lines/s:", figures(delays))
        finally:
            child.close(force=True)
    return 0


def make_noise(chat: ChatServer, stop: threading.Event) -> None:
    """Send messages until ``stop`` is set."""
    while not stop.wait(1 / NOISE):
        chat.say("noise")


def delay(chat: ChatServer, child: pexpect.spawn[Any], number: int) -> float:
    """Return the seconds until a message is on the terminal."""
    time.sleep(PAUSE)
    mark = f"mark {number}.".encode()
    seen = b""
    begin = time.perf_counter()
    chat.say(mark.decode())
    while mark not in seen:
        if not select.select([child.fileno()], [], [], 10)[0]:
            raise TimeoutError(f"{mark!r} was not shown")
        seen += child.read_nonblocking(65536, 0)
    return time.perf_counter() - begin


def figures(delays: list[float]) -> str:
    """Format the median and the longest delay in milliseconds."""
    return f"median {statistics.median(delays) * 1000:.1f} ms, worst {max(delays) * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
