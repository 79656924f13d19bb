"""Ctrl+C in thousands of calls: a call that has returned has handed its message over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.peer import PATIENCE
from tests.processes import ROOT, environment

PROGRAM = """
import signal, sys, threading
from syncchat import ChatServer, Client
from syncchat.engine import Retention

CALLS = int(sys.argv[2])
is_armed = False

def on_alarm(*_):
    if is_armed:
        raise KeyboardInterrupt

def call_all(name, say):
    "The texts whose calls have returned."
    global is_armed
    done, interrupted = [], 0
    for number in range(CALLS):
        text = f"{name} {number}"
        try:
            is_armed = True
            say(text)
            is_armed = False
            done.append(text)
        except KeyboardInterrupt:
            is_armed = False
            interrupted += 1
    return done, interrupted

signal.signal(signal.SIGALRM, on_alarm)
with ChatServer(port=0, rate=0, engine=sys.argv[1], keep=Retention(messages=100_000)) as chat:
    with Client(f"ws://127.0.0.1:{chat.port}/", nick="ann") as client:
        others, over = [], threading.Event()
        def talk():
            while not over.wait(0.0002):
                others.append(f"other {len(others)}")
                chat.say(others[-1])
        talking = threading.Thread(target=talk)
        talking.start()
        signal.setitimer(signal.ITIMER_REAL, 0.0013, 0.0013)
        said, first = call_all("server", chat.say)
        sent, second = call_all("client", client.say)
        signal.setitimer(signal.ITIMER_REAL, 0)
        over.set()
        talking.join()
        client.flush(30)
    kept = [each.text for each in chat.history(n=100_000)]
assert len(kept) == len(set(kept)), "repeated"
lost = {*said, *sent, *others} - {*kept}
assert not lost, f"lost: {sorted(lost)[:5]}"
for name, texts in (("server", said), ("client", sent), ("other", others)):
    numbers = [int(each.split()[1]) for each in kept if each.startswith(name)]
    assert numbers == sorted(numbers), f"out of order: {name}"
print("interrupted", first, second)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "calls"), [("memory:", 4000), ("sqlite:", 400)])
def test_a_call_that_has_returned_has_handed_its_message_over(
    tmp_path: Path, engine: str, calls: int
) -> None:
    name = engine if engine == "memory:" else f"{engine}{tmp_path / 'chat.db'}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(calls)],
        check=False,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sum(map(int, done.stdout.split()[1:])) > 50, done.stdout
