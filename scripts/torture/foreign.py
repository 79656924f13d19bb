"""Clients that stay, built on another library: JSON events and plain lines.

They follow docs/protocol.md, and know nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from .clients import Actor, line_text, stamp_of
from .history import (
    Acked,
    Entered,
    Gap,
    History,
    Left,
    Line,
    Page,
    Private,
    PrivateSeen,
    Refused,
    Seen,
    Sent,
    short,
)
from .plan import ROOMS, ClientPlan, Step
from .servers import Node, wait_until

__all__ = [
    "ForeignClient",
    "JsonClient",
    "PlainClient",
    "open_json",
    "open_plain",
    "open_websocket",
]

#: Seconds for a handshake and for a pong; between two pings.
_PATIENCE, _PING_SECONDS = 5.0, 5.0

#: Where the library reports broken connections, of which there are many.
_SILENT = logging.getLogger("torture.websockets")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

#: How the plain dialect tells of a gap and of another room.
_GAP, _MOVED = "-> Some messages are missing here", "-> You are now in "


def open_plain(url: str) -> ClientConnection:
    """Connect for plain lines."""
    return open_websocket(url)


def open_json(url: str) -> ClientConnection:
    """Connect for JSON events."""
    return open_websocket(url, "syncchat.v1")


def open_websocket(url: str, subprotocol: str | None = None) -> ClientConnection:
    """Connect with the foreign library, which answers pings by itself."""
    return connect(
        url,
        subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
        compression=None,
        proxy=None,
        open_timeout=_PATIENCE,
        ping_interval=_PING_SECONDS,
        ping_timeout=_PATIENCE,
        close_timeout=1.0,
        max_size=None,
        legacy=True,
        logger=_SILENT,
    )


class ForeignClient(Actor):
    """A client whose thread ``NAME listens`` connects, reads, and connects again."""

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        self._chance = random.Random(plan.name)
        #: Guards the connection, None during a break, and what the subclass sends and awaits.
        self._lock = threading.Lock()
        self._connection: ClientConnection | None = None
        self._over = threading.Event()
        self._attempts = 0
        self._listener = threading.Thread(
            target=self._listen, name=f"{self.name} listens", daemon=True
        )

    def start(self) -> None:
        self._listener.start()
        self._talker.start()

    def close(self) -> None:
        self._over.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.close()
        self._listener.join()

    @abstractmethod
    def _open(self, url: str) -> ClientConnection:
        """Connect to the node at this URL."""

    @abstractmethod
    def _hear(self, text: str) -> None:
        """Take a message. On the listener's thread."""

    @abstractmethod
    def _opened_locked(self) -> None:
        """Note that there is a connection, and that nothing has come on it."""

    def _lost(self) -> None:
        """Note that the connection has ended. On the listener's thread."""

    def _send_locked(self, text: str) -> bool:
        """Send a message. False: there is a break."""
        assert self._lock.locked()
        if self._connection is None:
            return False
        try:
            self._connection.send(text)
        except (WebSocketException, OSError):
            return False
        return True

    def _listen(self) -> None:
        while not self._over.is_set():
            # To another node after each break, if there is one.
            node = self._nodes[(self.plan.node + self._attempts) % len(self._nodes)]
            self._attempts += 1
            with contextlib.suppress(WebSocketException, OSError, TimeoutError):
                connection = self._open(node.url)
                with self._lock:
                    self._connection = connection
                    self._opened_locked()
                if self._over.is_set():
                    connection.close()
                self._read(connection)
            self._over.wait(self._chance.uniform(0.05, 0.5))

    def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                text = connection.recv()
                assert isinstance(text, str)
                self._hear(text)
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                self._connection = None
            connection.close()
            self._lost()


class JsonClient(ForeignClient):
    """A client of ``syncchat.v1``, with a position and an outbox as the protocol describes."""

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        #: The messages that are not acknowledged, by nonce: the event and the text.
        self._outbox: dict[str, tuple[str, str]] = {}
        #: The nonces of those that it has sent on an earlier connection, too.
        self._repeated: set[str] = set()
        #: The last ones that are: a repeater sends them again.
        self._recent: deque[tuple[str, str]] = deque(maxlen=50)
        #: Whether it has been welcomed on this connection, and whether a join has no answer yet.
        self._welcomed = self._moving = False
        # Only the listener uses these: the epoch of the log, the position up to which it has
        # seen messages, and what that was when it connected.
        self._epoch = ""
        self._seen: tuple[str, int] | None = None
        self._asked = ""

    def wait_acknowledged(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not wait_until(self._is_acknowledged, min(1.0, timeout)):
            if time.monotonic() >= deadline:
                return False
            # A repeater does not give up what was refused.
            with self._lock:
                if self._welcomed and self.plan.repeats:
                    self._send_outbox_locked()
        return True

    def _is_acknowledged(self) -> bool:
        with self._lock:
            return not self._outbox

    def _send_outbox_locked(self) -> None:
        for event, text in self._outbox.values():
            self._history.write(Sent, self.name, self._room, text, again=True)
            self._send_locked(event)

    def _open(self, url: str) -> ClientConnection:
        self._asked = "" if self._seen is None else f"{self._seen[0]}:{self._seen[1]}"
        after = f"&after={self._asked}" if self._asked else ""
        return open_json(f"{url}/{quote(self._room)}?nick={self.name}{after}")

    def _opened_locked(self) -> None:
        self._welcomed = self._moving = False
        self._repeated = set(self._outbox)

    # What it says.

    def _take(self, step: Step) -> None:
        text = short(step.text)
        match step.what:
            case "move":
                self._move()
            case "whisper":
                self._history.write(Private, self.name, step.to, text)
                with self._lock:
                    self._send_locked(_json(type="private", to=step.to, text=step.text))
            case _:
                self._say(step, text)

    def _move(self) -> None:
        with self._lock:
            # A nonce belongs to a room: nothing of this room may be on its way.
            if self._welcomed and not self._outbox:
                room = ROOMS[1] if self._room == ROOMS[0] else ROOMS[0]
                self._moving = self._send_locked(_json(type="join", room=room))

    def _say(self, step: Step, text: str) -> None:
        nonce = f"{self.name}-{text[:24]}"
        kind = "action" if step.what == "act" else "say"
        event = _json(type=kind, text=step.text, nonce=nonce)
        with self._lock:
            if self._moving:
                return
            self._history.write(Sent, self.name, self._room, text)
            self._outbox[nonce] = event, text
            if not self._welcomed:
                return  # All that waits is sent after the welcome.
            self._send_locked(event)
            if self.plan.repeats:
                again = [(event, text)]
                if self._recent:
                    again.append(self._chance.choice(self._recent))
                for known, said in again:
                    self._history.write(Sent, self.name, self._room, said, again=True)
                    self._send_locked(known)

    # What it hears.

    def _hear(self, text: str) -> None:
        event = json.loads(text)
        match event["type"]:
            case "welcome":
                self._enter(event)
            case "history":
                self._resume(event)
            case "message":
                self._see(event)
            case "ack":
                self._acknowledge(event["nonce"], event["epoch"], event["offset"])
            case "error" if "nonce" in event and not self.plan.repeats:
                self._refuse(event["nonce"], event["code"])
            case "error" if event.get("command") == "join":
                with self._lock:
                    self._moving = False
            case "private":
                self._history.write(PrivateSeen, self.name, short(event["text"]))
            case _:
                pass

    def _enter(self, event: dict[str, Any]) -> None:
        write, name = self._history.write, self.name
        with self._lock:
            resumed = not self._welcomed and bool(self._asked)
            self._welcomed, self._moving = True, False
            self._room = event["room"]
            write(Entered, name, self._room, event["epoch"], event["offset"], resumed=resumed)
            if not resumed:
                self._recent.clear()
                self._seen = event["epoch"], event["offset"]
            self._epoch = event["epoch"]
            self._send_outbox_locked()

    def _resume(self, event: dict[str, Any]) -> None:
        messages = event["messages"]
        offsets = [each["offset"] for each in messages] or [0]
        ends = offsets[0], offsets[-1]
        page = (self._asked, event["complete"], *ends)
        self._history.write(Page, self.name, self._room, self._epoch, *page)
        # Further pages follow this one.
        if offsets[-1]:
            self._asked = f"{self._epoch}:{offsets[-1]}"
        if not event["complete"]:
            self._history.write(Gap, self.name, self._room)
            if self._seen is not None and self._seen[0] != self._epoch:
                self._seen = None
        for message in messages:
            self._see(message)

    def _see(self, event: dict[str, Any]) -> None:
        offset, text = event["offset"], short(event["text"])
        if self._seen is not None and self._seen[0] == self._epoch and offset <= self._seen[1]:
            # The protocol has clients drop what they have seen. A server on Redis may lag.
            return
        self._seen = self._epoch, offset
        stamp = stamp_of(event["nick"], event["time"], event.get("nonce"))
        self._history.write(Seen, self.name, self._room, self._epoch, offset, text, stamp)
        self._acknowledge(event.get("nonce"), self._epoch, offset)

    def _acknowledge(self, nonce: str | None, epoch: str, offset: int) -> None:
        if nonce is None or not nonce.startswith(f"{self.name}-"):
            return
        with self._lock:
            found = self._outbox.pop(nonce, None)
            if found is not None:
                self._recent.append(found)
            text = next((t for _, t in self._recent if f"{self.name}-{t[:24]}" == nonce), None)
        if text is not None:
            self._history.write(Acked, self.name, self._room, text, epoch, offset)

    def _refuse(self, nonce: str, code: str) -> None:
        with self._lock:
            if code == "unavailable" and nonce in self._repeated and nonce in self._outbox:
                # It may be stored since it was sent first.
                connection, found = self._connection, None
            else:
                connection, found = None, self._outbox.pop(nonce, None)
        if connection is not None:
            connection.close()
        if found is not None:
            self._history.write(Refused, self.name, self._room, found[1])


class PlainClient(ForeignClient):
    """A client of plain lines, which has no position, no nonce and no acknowledgement."""

    @property
    def is_acknowledged(self) -> bool:
        return False

    def wait_acknowledged(self, timeout: float) -> bool:
        del timeout
        return True

    def _open(self, url: str) -> ClientConnection:
        return open_plain(f"{url}/{quote(self._room)}?nick={self.name}")

    def _opened_locked(self) -> None:
        self._history.write(Entered, self.name, self._room)

    def _lost(self) -> None:
        self._history.write(Left, self.name)

    def _take(self, step: Step) -> None:
        text = short(step.text)
        with self._lock:
            match step.what:
                case "move":
                    room = ROOMS[1] if self._room == ROOMS[0] else ROOMS[0]
                    self._send_locked(f"/join {room}")
                case "whisper":
                    self._history.write(Private, self.name, step.to, text)
                    self._send_locked(f"/msg {step.to} {step.text}")
                case _:
                    self._history.write(Sent, self.name, self._room, text)
                    self._send_locked(step.text)

    def _hear(self, text: str) -> None:
        if text.startswith(_GAP):
            self._history.write(Gap, self.name, self._room)
        elif text.startswith(_MOVED):
            self._room = text.removeprefix(_MOVED).removesuffix(".")
            self._history.write(Entered, self.name, self._room)
        elif (said := line_text(text)) is not None:
            whisper = text.startswith(("[PM from ", "-> [Sent PM to "))
            if whisper:
                self._history.write(PrivateSeen, self.name, short(said))
            else:
                self._history.write(Line, self.name, self._room, short(said))


def _json(**members: object) -> str:
    return json.dumps(members)
