"""The log writer with outputs that block, fail or go away."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from syncchat.eventlog import LogWriter
from tests.peer import PATIENCE, wait_for
from tests.processes import environment

LINES = [f"line {number} " + "x" * 1000 for number in range(3000)]


def read_all(descriptor: int) -> str:
    """All bytes until the other end is closed."""
    data = bytearray()
    while part := os.read(descriptor, 65536):
        data += part
    return data.decode()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "syncchat-log"]


def test_all_lines_are_written_in_order_before_close_returns() -> None:
    reading, writing = os.pipe()
    log = LogWriter(writing)
    for number in range(500):
        log.print(f"line {number} \udcff")
    log.close(PATIENCE)
    assert threads() == []
    os.close(writing)
    assert read_all(reading) == "".join(f"line {number} \\udcff\n" for number in range(500))
    os.close(reading)


def test_lines_that_do_not_fit_are_dropped_and_counted() -> None:
    reading, writing = os.pipe()
    log = LogWriter(writing)
    began = time.monotonic()
    for line in LINES:
        log.print(line)
    assert time.monotonic() - began < PATIENCE
    # The reader wakes up.
    shown: list[str] = []
    reader = threading.Thread(target=lambda: shown.append(read_all(reading)))
    reader.start()
    log.close(PATIENCE)
    os.close(writing)
    reader.join(PATIENCE)
    os.close(reading)
    at = dropped = 0
    for line in shown[0].splitlines():
        if found := re.fullmatch(r"\((\d+) lines? dropped\)", line):
            at += int(found[1])
            dropped += int(found[1])
        else:
            assert line == LINES[at]
            at += 1
    assert at == len(LINES)
    assert dropped > 0


def test_a_line_over_the_limit_is_counted_at_once_and_later_lines_are_written() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    log = LogWriter(writing)
    shown = bytearray()

    def shows(expected: bytes) -> bool:
        with suppress(BlockingIOError):
            shown.extend(os.read(reading, 65536))
        return shown == expected

    log.print("before")
    wait_for(lambda: shows(b"before\n"))
    log.print("x" * (1024 * 1024))
    wait_for(lambda: shows(b"before\n(1 line dropped)\n"))
    log.print("after")
    wait_for(lambda: shows(b"before\n(1 line dropped)\nafter\n"))
    log.close(PATIENCE)
    assert threads() == []
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_an_output_that_takes_nothing_delays_close_by_its_timeout_only(kind: str) -> None:
    if kind == "terminal":
        reading, writing = os.openpty()
        # Ctrl+S.
        termios.tcflow(writing, termios.TCOOFF)
    elif kind == "socket":
        reading, writing = (sock.detach() for sock in socket.socketpair())
    else:
        reading, writing = os.pipe()
    log = LogWriter(writing)
    for line in LINES:
        log.print(line)
    began = time.monotonic()
    log.close(0.1)
    assert 0.1 <= time.monotonic() - began < PATIENCE
    assert len(threads()) == 1
    log.print("dropped, as the log is closed")
    # Release the thread.
    os.close(reading)
    wait_for(lambda: not threads())
    os.close(writing)


def test_a_process_ends_though_its_log_is_blocked() -> None:
    program = (
        "from syncchat.eventlog import LogWriter; log = LogWriter(1);"
        " [log.print('x' * 1000) for _ in range(3000)]; log.close(0.1)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.wait(PATIENCE) == 0


def test_a_full_disk_ends_the_log_and_nothing_else() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        log = LogWriter(full.fileno())
        log.print("x")
        wait_for(lambda: not threads())
        log.print("y")
        log.close()


def test_a_pipe_without_a_reader_ends_the_log_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = LogWriter(writing)
    log.print("x")
    wait_for(lambda: not threads())
    log.print("y")
    log.close()
    os.close(writing)


def test_a_non_blocking_output_gets_all_lines() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    log = LogWriter(writing)
    sent = LINES[:500]
    for line in sent:
        log.print(line)
    shown: list[str] = []
    reader = threading.Thread(target=lambda: shown.append(read_all(reading)))
    reader.start()
    log.close(PATIENCE)
    os.close(writing)
    reader.join(PATIENCE)
    os.close(reading)
    assert shown[0].splitlines() == sent


def test_a_socket_of_a_service_manager_gets_the_lines() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        log = LogWriter(theirs.fileno())
        log.print("hello")
        log.close(PATIENCE)
        assert ours.recv(100) == b"hello\n"
