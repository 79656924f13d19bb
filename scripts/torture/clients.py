"""The clients that stay: they talk, come back after each break, and note what they see.

Clients of other kinds have the same interface, :class:`Actor`, and an entry in
``runner.ACTORS``.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from syncchat import Client, ConnectionClosed, Disconnected, NotConnected
from syncchat.chat.events import Ack, Error, Message, PrivateMessage, Welcome, decode_from_server
from syncchat.chat.events import Private as Whisper
from syncchat.client import Event
from syncchat.client import Gap as GapEvent

from .history import (
    Acked,
    Audit,
    Entered,
    Gap,
    History,
    Private,
    PrivateSeen,
    Refused,
    Seen,
    Sent,
    short,
)
from .plan import ROOMS, ClientPlan, Step
from .servers import Node, clean_environment, wait_until

__all__ = ["Actor", "OurClient", "PipeClient", "line_text", "stamp_of"]

_CLIENT = Path(__file__).resolve().parents[1] / "client.py"

#: Seconds that a pipe client may take until it is in the room, and after the end of its input.
_JOIN_SECONDS, _PIPE_SECONDS = 30.0, 15.0

#: The text of a message in a line of the plain dialect: all texts of a run begin like this.
_TEXT = re.compile(r"(?:^|: |\] |\*\* \S+ )([a-z]+\d+\.\d+(?: x+)?)$")


def line_text(line: str) -> str | None:
    """The text of the message that a plain line shows; None: it shows something else."""
    found = _TEXT.search(line)
    return found[1] if found else None


def stamp_of(nick: str, time: float, nonce: str | None) -> str:
    """What belongs to the content of a message besides its text."""
    return f"{nick} {time!r} {nonce}"


class Actor(ABC):
    """A client that stays to the end of a run.

    Its thread ``NAME talks`` takes the planned steps until :meth:`be_silent`, which joins it.
    """

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        self.plan = plan
        self.name = plan.name
        self._steps = steps
        self._nodes = nodes
        self._history = history
        #: The room that it is in, or will be when it is connected again.
        self._room = ROOMS[0]
        self._silent = threading.Event()
        self._talker = threading.Thread(target=self._talk, name=f"{self.name} talks", daemon=True)

    @property
    def is_acknowledged(self) -> bool:
        """Whether it learns that its messages are stored."""
        return True

    @property
    def is_member(self) -> bool:
        """Whether it has a name in its room."""
        return True

    @property
    def sees(self) -> bool:
        """Whether it gets messages."""
        return True

    @abstractmethod
    def start(self) -> None:
        """Connect, and begin to talk."""

    def be_silent(self) -> None:
        """Say nothing new."""
        self._silent.set()
        self._talker.join()

    @abstractmethod
    def wait_acknowledged(self, timeout: float) -> bool:
        """Wait until all its messages are acknowledged. False: ``timeout`` seconds have passed."""

    @abstractmethod
    def close(self) -> None:
        """Leave, and join all threads. Call :meth:`be_silent` before."""

    @abstractmethod
    def _take(self, step: Step) -> None:
        """Take a step."""

    def _talk(self) -> None:
        for step in self._steps:
            if self._silent.wait(step.pause):
                return
            self._take(step)


class _PackageClient(Actor):
    """A client that is made with this package, whose events are noted."""

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        # Only the thread that listens uses these.
        self._epoch, self._shown_room = "", ""
        self._lost = False
        self._listener = threading.Thread(
            target=self._listen, name=f"{self.name} listens", daemon=True
        )

    @abstractmethod
    def _listen(self) -> None:
        """Note all events until the end."""

    @abstractmethod
    def _answer(self, nonce: str, answer: Ack | Error) -> None:
        """Note an answer to a message, by its nonce."""

    def _note(self, event: Event) -> None:
        write, name = self._history.write, self.name
        match event:
            case Welcome():
                resumed = self._lost and event.room == self._shown_room
                self._lost = False
                self._epoch, self._shown_room = event.epoch, event.room
                write(Entered, name, event.room, event.epoch, event.offset, resumed=resumed)
            case Message():
                text = short(event.text)
                at = (name, self._shown_room, self._epoch, event.offset, text)
                write(Seen, *at, stamp_of(event.nick, event.time, event.nonce))
                if event.text.startswith(f"{name}."):
                    write(Acked, name, self._shown_room, text, self._epoch, event.offset)
            case GapEvent():
                write(Gap, name, self._shown_room)
            case Ack():
                self._answer(event.nonce, event)
            case Error() if event.nonce is not None:
                self._answer(event.nonce, event)
            case PrivateMessage():
                write(PrivateSeen, name, short(event.text))
            case Disconnected():
                self._lost = True
            case _:
                pass


class OurClient(_PackageClient):
    """The ``Client`` of this package, which reconnects by itself."""

    def start(self) -> None:
        node = self._nodes[self.plan.node]
        self._client = Client(f"{node.url}/{self._room}", nick=self.name, timeout=5.0)
        self._client.connect()
        #: Guards the next two: the rooms and texts of messages by nonce, and answers that have
        #: come before their nonce was known here.
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[str, str]] = {}
        self._early: dict[str, Ack | Error] = {}
        self._listener.start()
        self._talker.start()

    def wait_acknowledged(self, timeout: float) -> bool:
        try:
            self._client.flush(timeout)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._client.close()
        self._listener.join()

    def _take(self, step: Step) -> None:
        text = short(step.text)
        try:
            match step.what:
                case "move":
                    self._room = ROOMS[1] if self._room == ROOMS[0] else ROOMS[0]
                    self._client.join(self._room)
                case "whisper":
                    self._history.write(Private, self.name, step.to, text)
                    self._client.ask(Whisper(step.to, step.text))
                case _:
                    send = self._client.act if step.what == "act" else self._client.say
                    self._history.write(Sent, self.name, self._room, text)
                    self._note_nonce(send(step.text, 60.0), text)
        except (NotConnected, TimeoutError):
            return  # A private message during a break; a server that is away for a minute.

    def _listen(self) -> None:
        while True:
            try:
                event = self._client.receive()
            except ConnectionClosed:
                return
            self._note(event)

    def _note_nonce(self, nonce: str | None, text: str) -> None:
        assert nonce is not None
        with self._lock:
            self._texts[nonce] = self._room, text
            early = self._early.pop(nonce, None)
        if early is not None:
            self._write_answer(self._room, text, early)

    def _answer(self, nonce: str, answer: Ack | Error) -> None:
        with self._lock:
            found = self._texts.pop(nonce, None)
            if found is None:
                self._early[nonce] = answer
                return
        self._write_answer(*found, answer)

    def _write_answer(self, room: str, text: str, answer: Ack | Error) -> None:
        if isinstance(answer, Error):
            self._history.write(Refused, self.name, room, text)
        else:
            self._history.write(Acked, self.name, room, text, answer.epoch, answer.offset)


class PipeClient(_PackageClient):
    """``scripts/client.py --json`` in a process, with a pipe as its input."""

    def start(self) -> None:
        url = f"{self._nodes[self.plan.node].url}/{self._room}"
        self._process = subprocess.Popen(
            [sys.executable, str(_CLIENT), url, "--nick", self.name, "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        )
        #: Guards the texts that have not come back; how many were refused; and the nonces of
        #: those that have come back, and of those that were acknowledged only.
        self._lock = threading.Lock()
        self._unanswered: set[str] = set()
        self._refused = 0
        self._back: set[str] = set()
        self._acked: set[str] = set()
        #: Set when it has been in the room, or has ended; and when its input has ended.
        self._joined, self._closed = threading.Event(), threading.Event()
        self._listener.start()
        # A client that cannot connect at first ends. No fault must be in its way.
        self._joined.wait(_JOIN_SECONDS)
        self._talker.start()

    def wait_acknowledged(self, timeout: float) -> bool:
        return wait_until(self._is_answered, timeout)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._closed.set()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PIPE_SECONDS)
        except subprocess.TimeoutExpired:
            detail = f"{self.name} has not ended after its input"
            self._history.write(Audit, self.plan.node, "pipe clients", 0, 1, detail)
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._process.stdout.close()

    def _is_answered(self) -> bool:
        with self._lock:
            return len(self._unanswered) <= self._refused + len(self._acked)

    def _take(self, step: Step) -> None:
        assert self._process.stdin is not None
        text = short(step.text)
        with self._lock:
            self._unanswered.add(text)
        self._history.write(Sent, self.name, self._room, text)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{step.text}\n".encode())
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            members = json.loads(line)
            match members["type"]:
                case "gap":
                    self._note(GapEvent(members["after"], members["epoch"]))
                case "disconnected":
                    self._note(Disconnected(members["code"], members["reason"]))
                case "reconnected":
                    pass
                case _:
                    event = decode_from_server(line.decode())
                    self._note(event)
                    self._joined.set()
                    if isinstance(event, Message):
                        self._note_back(event)
        self._joined.set()
        if not self._closed.is_set():
            detail = f"{self.name} has ended before its input"
            self._history.write(Audit, self.plan.node, "pipe clients", 0, 1, detail)

    def _answer(self, nonce: str, answer: Ack | Error) -> None:
        # The process knows to which text the nonce belongs.
        with self._lock:
            if isinstance(answer, Error):
                self._refused += 1
            elif nonce not in self._back:
                # It is behind a gap, or comes later.
                self._acked.add(nonce)

    def _note_back(self, message: Message) -> None:
        """Note a message that may be its own."""
        text = short(message.text)
        with self._lock:
            if text in self._unanswered and message.nonce is not None:
                self._unanswered.discard(text)
                self._back.add(message.nonce)
                self._acked.discard(message.nonce)
