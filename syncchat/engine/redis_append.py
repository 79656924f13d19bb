"""Appends messages to the logs in Redis, each batch once whatever the network does."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence

from ..errors import AppendUnknown, EngineFailed
from ..net import Deadline
from .interface import Appended, Draft, Position, Retention, fingerprint, new_epoch
from .redis_connection import Argument, Pipeline, RedisServer
from .redis_format import Keys, answers_of, entry_of
from .redis_scripts import APPEND

__all__ = ["Appender"]

#: Seconds for which ``append`` tries to learn whether its batch is stored, and the pause
#: between two tries.
_SECONDS, _PAUSE = 5.0, 0.1

#: Milliseconds that replicas may take to confirm a batch.
_REPLICA_MILLISECONDS = 1000


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

    def append(
        self, room: str, drafts: Sequence[Draft], fence: tuple[str, int, float]
    ) -> tuple[list[Appended], Position]:
        """As :meth:`Log.append`. Also returns the epoch and the highest offset of the answers.

        ``fence`` is what has been seen of the log: epoch, offset and the time of that message.
        """
        keep = self._retention
        arguments: list[Argument] = [
            self._keys.channel(room),
            new_epoch(),
            *fence,
            self._node,
            secrets.token_hex(8),
            room,
            -1 if keep.messages is None else keep.messages,
            -1 if keep.seconds is None else keep.seconds,
        ]
        for draft in drafts:
            arguments += [fingerprint(draft) or "", entry_of(draft)]
        deadline = Deadline.after(_SECONDS)
        unknown: AppendUnknown | None = None
        while True:
            try:
                # It can run again: it knows its batch.
                epoch, answer = self._pipeline.run(
                    APPEND, [self._keys.prefix(room)], *arguments, then=self._then()
                )
            except AppendUnknown as exc:
                unknown = exc
            except EngineFailed:
                if unknown is None:
                    raise
            else:
                answers = answers_of(answer.decode())
                last = max((each.offset for each in answers), default=0)
                return answers, Position(epoch.decode(), last)
            if deadline.expired or self._stopping.wait(_PAUSE):
                raise unknown

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
