"""Appends messages to the logs in Redis, each batch once whatever the network does."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import AppendUnknown, EngineFailed
from ..net import Deadline
from .interface import Appended, Draft, Position, Retention, fingerprint, new_epoch
from .redis_connection import Argument, Pipeline, Reply
from .redis_format import Keys, answers_of, entry_of
from .redis_reads import Fence
from .redis_scripts import APPEND
from .redis_server import RedisServer

__all__ = ["Appender", "Stored"]

#: Seconds for which ``append`` tries to learn whether its batch is stored, and the pause
#: between two tries.
_SECONDS, _PAUSE = 5.0, 0.1

#: Milliseconds that replicas may take to confirm a batch.
_REPLICA_MILLISECONDS = 1000


class Stored(NamedTuple):
    """What has become of a batch.

    ``end``: the epoch, and the highest offset of the answers. ``at``: the time of that message;
    0.0: all were known before.
    """

    answers: list[Appended]
    end: Position
    at: float


class Appender:
    """Appends for the node called ``node``. It needs no follower.

    An append has succeeded when so many ``replicas`` have it, besides Redis itself.
    """

    def __init__(
        self, server: RedisServer, retention: Retention, node: str, *, replicas: int = 0
    ) -> None:
        self._keys = Keys(server.database)
        self._pipeline = Pipeline(server)
        self._retention = retention
        self._node = node
        self._replicas = replicas
        self._stopping = threading.Event()

    @property
    def round_trips(self) -> int:
        """Round trips so far."""
        return self._pipeline.round_trips

    def append(self, room: str, drafts: Sequence[Draft], fence: Fence) -> Stored:
        """Append to a room. Raises as :meth:`Log.append`."""
        (outcome,) = self.append_all([(room, drafts, fence)])
        if isinstance(outcome, EngineFailed):
            raise outcome
        return outcome

    def append_all(
        self, batches: Sequence[tuple[str, Sequence[Draft], Fence]]
    ) -> list[Stored | EngineFailed]:
        """Append to several rooms in one round trip; an exception is returned in its place."""
        # For a log that begins anew; and the batches have numbers under a random name.
        epoch, name = new_epoch(), secrets.token_hex(8)
        calls = [
            self._call(room, drafts, fence, epoch, f"{name}.{number}")
            for number, (room, drafts, fence) in enumerate(batches)
        ]
        deadline = Deadline.after(_SECONDS)
        unknown: AppendUnknown | None = None
        while True:
            try:
                # It can run again: each script knows its batch.
                replies = self._pipeline.run_each(APPEND, calls, self._then())
            except AppendUnknown as exc:
                unknown = exc
            except EngineFailed as exc:
                if unknown is None:
                    return [exc] * len(batches)
            else:
                outcomes = [_outcome(reply) for reply in replies]
                if unknown is None:
                    return outcomes
                # What Redis refuses now, it may have stored before.
                refused = [isinstance(each, EngineFailed) for each in outcomes]
                if deadline.expired or not any(refused):
                    return [
                        unknown if is_refused else each
                        for each, is_refused in zip(outcomes, refused, strict=True)
                    ]
            if deadline.expired or self._stopping.wait(_PAUSE):
                return [unknown] * len(batches)

    def _call(
        self, room: str, drafts: Sequence[Draft], fence: Fence, epoch: str, batch: str
    ) -> tuple[list[str], list[Argument]]:
        """The keys and arguments of APPEND."""
        keep = self._retention
        arguments: list[Argument] = [
            self._keys.channel(room),
            epoch,
            *fence,
            self._node,
            batch,
            room,
            -1 if keep.messages is None else keep.messages,
            -1 if keep.seconds is None else keep.seconds,
        ]
        for draft in drafts:
            arguments += (fingerprint(draft) or "", entry_of(draft))
        return [self._keys.prefix(room)], arguments

    def interrupt(self) -> None:
        """As :meth:`Engine.interrupt`."""
        self._stopping.set()
        self._pipeline.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self.interrupt()
        self._pipeline.close()

    def _then(self) -> tuple[str, int, int] | None:
        """The command that waits for the replicas."""
        return ("WAIT", self._replicas, _REPLICA_MILLISECONDS) if self._replicas else None


def _outcome(reply: Reply) -> Stored | EngineFailed:
    if isinstance(reply, EngineFailed):
        return reply
    found, answer, at = reply
    epoch = found.decode()
    answers = answers_of(epoch, answer.decode())
    last = max(answers, key=lambda each: each.offset, default=Appended(epoch, 0, new=False))
    time = float(at) if last.new else 0.0
    return Stored(answers, Position(epoch, last.offset), time)
