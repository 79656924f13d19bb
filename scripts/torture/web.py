"""Clients that stay, over plain HTTP on another library: publishers and followers.

They follow docs/protocol.md, and know nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import requests

from .clients import Actor, stamp_of
from .history import (
    Acked,
    Entered,
    Gap,
    History,
    Page,
    PrivateSeen,
    Refused,
    Seen,
    Sent,
    short,
)
from .plan import ROOMS, ClientPlan, Step
from .servers import Node

__all__ = ["EventSourceFollower", "LinesFollower", "Publisher"]

#: Seconds in which a request must be answered. Some publishers are impatient: their request is
#: on its way still when they repeat it, perhaps at another node.
_PATIENCE = (0.2, 1.0, 5.0)

#: Seconds for the head of an answer to a follower, and between two pieces of its body.
_HEAD_SECONDS, _SILENCE_SECONDS = 5.0, 10.0

#: Seconds of a break, from the shortest to the longest.
_BREAK = (0.05, 0.5)

#: Statuses after which a request is sent again; other errors are definite.
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


def _base(node: Node) -> str:
    return node.url.replace("ws:", "http:")


class Publisher(Actor):
    """Says each message by ``POST`` with an ``Idempotency-Key``, until it knows what became of it.

    A repeater sends it again after that, too, and gets the same position.
    """

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        self._over = threading.Event()
        # Only the talker uses these.
        self._chance = random.Random(plan.name)
        self._attempts = 0
        self._recent: deque[tuple[Step, str]] = deque(maxlen=50)
        self._session = _session()

    @property
    def is_member(self) -> bool:
        return False

    @property
    def sees(self) -> bool:
        return False

    def start(self) -> None:
        self._talker.start()

    def be_silent(self) -> None:
        # Its last message may have no answer yet: wait_acknowledged() waits for that.
        self._silent.set()

    def wait_acknowledged(self, timeout: float) -> bool:
        self._talker.join(timeout)
        return not self._talker.is_alive()

    def close(self) -> None:
        self._over.set()
        self._talker.join()
        self._session.close()

    def _take(self, step: Step) -> None:
        match step.what:
            case "move":
                self._room = ROOMS[1] if self._room == ROOMS[0] else ROOMS[0]
                # A nonce belongs to a room.
                self._recent.clear()
            case "whisper":
                pass  # Over HTTP there are no private messages.
            case _:
                self._say(step)
                if self.plan.repeats and self._recent:
                    self._say(*self._chance.choice(self._recent))

    def _say(self, step: Step, key: str = "") -> None:
        """Say it until there is an answer. ``key``: it has been said with this one."""
        again, text = bool(key), short(step.text)
        key = key or f"{self.name}-{text[:24]}"
        while not self._over.is_set():
            self._history.write(Sent, self.name, self._room, text, again=again)
            status, answer = self._post(step, key)
            if status == requests.codes.created:
                place = json.loads(answer)
                at = (self._room, text, place["epoch"], place["offset"])
                self._history.write(Acked, self.name, *at)
                if not again or (step, key) not in self._recent:
                    self._recent.append((step, key))
                return
            if status and status not in _AGAIN:
                self._history.write(Refused, self.name, self._room, text)
                return
            again = True
            self._attempts += 1
            self._over.wait(self._chance.uniform(*_BREAK))

    def _post(self, step: Step, key: str) -> tuple[int, bytes]:
        """Make one request. Returns the status, or 0 if there is no answer, and the body."""
        # To another node after each failure, if there is one.
        node = self._nodes[(self.plan.node + self._attempts) % len(self._nodes)]
        url, headers = f"{_base(node)}/{self._room}", {"Idempotency-Key": key}
        if step.what == "act":
            headers["Content-Type"] = "application/json"
            action = {"text": step.text, "nick": self.name, "kind": "action"}
            body = json.dumps(action)
        else:
            headers["Content-Type"] = "text/plain; charset=utf-8"
            url += f"?nick={self.name}"
            body = step.text
        try:
            answer = self._session.post(
                url, body.encode(), headers=headers, timeout=self._chance.choice(_PATIENCE)
            )
        except requests.RequestException:
            return 0, b""
        return answer.status_code, answer.content


class _Follower(Actor):
    """Follows a room, from the last message on after each break; says nothing.

    Its thread ``NAME listens`` connects, reads, and connects again.
    """

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        self._over = threading.Event()
        #: It has to go to the other room.
        self._moves = threading.Event()
        self._listener = threading.Thread(
            target=self._listen, name=f"{self.name} listens", daemon=True
        )
        # Only the listener uses these: the position, the one with which it has connected, and
        # whether nothing has come yet that follows that.
        self._chance = random.Random(plan.name)
        self._place = self._asked = ""
        self._is_first = False

    @property
    def is_acknowledged(self) -> bool:
        return False

    @property
    def is_member(self) -> bool:
        return False

    def start(self) -> None:
        self._listener.start()
        self._talker.start()

    def wait_acknowledged(self, timeout: float) -> bool:
        del timeout
        return True

    def close(self) -> None:
        self._over.set()
        self._listener.join()

    def _take(self, step: Step) -> None:
        if step.what == "move":
            self._moves.set()

    def _listen(self) -> None:
        attempts = 0
        with _session() as session:
            while not self._over.is_set():
                if self._moves.is_set():
                    self._moves.clear()
                    self._room = ROOMS[1] if self._room == ROOMS[0] else ROOMS[0]
                    self._place = ""
                # To another node after each break, if there is one.
                node = self._nodes[(self.plan.node + attempts) % len(self._nodes)]
                attempts += 1
                self._asked, self._is_first = self._place, True
                with contextlib.suppress(requests.RequestException):
                    self._follow(session, f"{_base(node)}/{self._room}")
                self._over.wait(self._chance.uniform(*_BREAK))

    def _follow(self, session: requests.Session, url: str) -> None:
        """Read one answer to its end. Raises :class:`requests.RequestException`."""
        with self._request(session, url) as answer:
            if answer.status_code != requests.codes.ok:
                return
            for line in answer.iter_lines():
                if self._over.is_set() or self._moves.is_set():
                    return
                self._hear(line)

    @abstractmethod
    def _request(self, session: requests.Session, url: str) -> requests.Response:
        """Ask for the room. Raises :class:`requests.RequestException`."""

    @abstractmethod
    def _hear(self, line: bytes) -> None:
        """Take a line of the answer."""

    def _enter(self, event: dict[str, Any]) -> None:
        at = (event["room"], event["epoch"], event["offset"])
        self._history.write(Entered, self.name, *at, resumed=bool(self._asked))

    def _see(self, epoch: str, event: dict[str, Any]) -> None:
        offset = event["offset"]
        self._begin(epoch, offset, complete=True)
        stamp = stamp_of(event["nick"], event["time"], event.get("nonce"))
        self._history.write(Seen, self.name, self._room, epoch, offset, short(event["text"]), stamp)

    def _miss(self, epoch: str) -> None:
        self._begin(epoch, 0, complete=False)
        self._history.write(Gap, self.name, self._room)

    def _begin(self, epoch: str, offset: int, *, complete: bool) -> None:
        """Note what comes first after the position with which it has connected."""
        if self._is_first and self._asked:
            page = (self._asked, complete, offset, offset)
            self._history.write(Page, self.name, self._room, epoch, *page)
        self._is_first = False


class LinesFollower(_Follower):
    """Gets JSON lines, and asks for what is ``after`` its position in the URL."""

    #: The epoch of the answer. Only the listener uses it.
    _epoch = ""

    def _request(self, session: requests.Session, url: str) -> requests.Response:
        parameters = {"format": "ndjson"}
        if self._asked:
            parameters["after"] = self._asked
        patience = _HEAD_SECONDS, _SILENCE_SECONDS
        return session.get(url, params=parameters, stream=True, timeout=patience)

    def _hear(self, line: bytes) -> None:
        if not line:
            return
        event = json.loads(line)
        match event["type"]:
            case "welcome":
                self._enter(event)
                self._epoch = event["epoch"]
                if not self._place:
                    self._place = f"{self._epoch}:{event['offset']}"
            case "history" if not event["complete"]:
                self._miss(self._epoch)
            case "message":
                self._see(self._epoch, event)
                self._place = f"{self._epoch}:{event['offset']}"
            case "private":
                self._history.write(PrivateSeen, self.name, short(event["text"]))
            case _:
                pass


class EventSourceFollower(_Follower):
    """Gets an event stream, and sends the last id when it comes back, as an EventSource does."""

    def __init__(
        self, plan: ClientPlan, steps: Iterator[Step], nodes: Sequence[Node], history: History
    ) -> None:
        super().__init__(plan, steps, nodes, history)
        # Only the listener uses it: the fields of the event whose lines come.
        self._fields: dict[str, str] = {}

    def _request(self, session: requests.Session, url: str) -> requests.Response:
        self._fields = {}
        headers = {"Accept": "text/event-stream"}
        if self._asked:
            headers["Last-Event-ID"] = self._asked
        patience = _HEAD_SECONDS, _SILENCE_SECONDS
        return session.get(url, headers=headers, stream=True, timeout=patience)

    def _hear(self, line: bytes) -> None:
        if line:
            # A line that begins with a colon is a comment, and has an empty name.
            name, _, text = line.decode().partition(":")
            self._fields[name] = text.removeprefix(" ")
            return
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return
        event = json.loads(fields["data"])
        place = fields.get("id", self._place)
        match fields.get("event", "message"):
            case "welcome":
                self._enter(event)
            case "history" if not event["complete"]:
                # The epoch of what follows is that of its id.
                self._miss("")
            case "message":
                self._see(place.rpartition(":")[0], event)
            case "private":
                self._history.write(PrivateSeen, self.name, short(event["text"]))
            case _:
                pass
        self._place = place


def _session() -> requests.Session:
    session = requests.Session()
    # No proxies of the environment: everything is on this machine.
    session.trust_env = False
    return session
