"""A program in several rooms at a time: a client for each."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlsplit, urlunsplit

from ..chat import events
from ..chat.room_names import check_room
from ..closecodes import ORDERLY
from ..errors import ConnectionClosed
from ..net import Deadline
from .client import Client
from .events import Disconnected, Event

__all__ = ["Clients"]

ResultT = TypeVar("ResultT")


class ClientSettings(TypedDict, total=False):
    """Keyword arguments of :class:`Client`, which all clients share."""

    nick: str | None
    history: int
    reconnect: bool
    timeout: float
    token: str | None
    ssl_context: ssl.SSLContext | None


class Clients:
    """A :class:`Client` in each of several rooms, and one queue of their events::

        with Clients("ws://127.0.0.1:2000/", ["ops", "dev"], nick="robot") as clients:
            clients["ops"].say("hello")
            for room, event in clients:
                ...

    ``url`` is that of the chat without a room, ``settings`` are those of :class:`Client`.
    ``clients[room]`` is the client in a room: use it to speak. Leave its :meth:`Client.receive`
    and :meth:`Client.join` alone.

    Raises as :class:`Client`, and :class:`~syncchat.errors.BadRoom` for an invalid name. Any
    thread may call every method.
    """

    def __init__(self, url: str, rooms: Iterable[str], **settings: Unpack[ClientSettings]) -> None:
        self._arrived = threading.Event()
        #: Taken while a thread receives: first in the lock order.
        self._turn = threading.Lock()
        #: By room, in the order given. The fields below are guarded by ``_turn``.
        self._clients = {
            name: Client(_in_room(url, name), on_event=self._arrived.set, **settings)
            for name in map(check_room, rooms)
        }
        if not self._clients:
            raise ValueError("Clients need a room at least")
        #: The rooms, with the one first whose turn it is.
        self._order = list(self._clients)
        #: How the connections ended, in the order of their ends.
        self._ends: dict[str, ConnectionClosed] = {}

    def connect(self, *, wait: bool = False, timeout: float | None = None) -> Self:
        """Connect all clients, as :meth:`Client.connect`. If one fails, none is connected."""
        self._for_all(lambda client: client.connect(wait=wait, timeout=timeout))
        with self._turn:
            self._ends.clear()
        return self

    def close(self, timeout: float | None = None) -> dict[str, list[events.Say | events.Action]]:
        """Close all clients at the same time, as :meth:`Client.close`.

        Returns what was not delivered, by room; empty if everything was.
        """
        pending = self._for_all(lambda client: client.close(timeout))
        return {room: left for room, left in zip(self._clients, pending, strict=True) if left}

    def __enter__(self) -> Self:
        return self if self._are_open() else self.connect()

    def __exit__(self, *exc_info: object) -> None:
        self._for_all(lambda client: client.__exit__(*exc_info))

    def __getitem__(self, room: str) -> Client:
        """The client in ``room``. Raises :class:`KeyError`."""
        return self._clients[check_room(room)]

    @property
    def rooms(self) -> list[str]:
        """The rooms, in the order given."""
        return list(self._clients)

    def receive(self, timeout: float | None = None) -> tuple[str, Event]:
        """Wait for the next event of any room. Returns the room and the event.

        The events of a room come in their order, and no room waits for a busier one. If a
        connection ends for good, its last event is a ``Disconnected``; the other rooms go on.

        Raises :class:`TimeoutError`, :class:`~syncchat.errors.ConnectionClosed` when all
        connections have ended, and :class:`RuntimeError` before :meth:`connect`.
        """
        deadline = Deadline.after(timeout)
        if not self._turn.acquire(timeout=deadline.for_lock()):
            raise TimeoutError("no event arrived in time")
        try:
            while True:
                self._arrived.clear()
                found = self._next()
                if found is not None:
                    return found
                if not self._arrived.wait(deadline.remaining()):
                    raise TimeoutError("no event arrived in time")
        finally:
            self._turn.release()

    def __iter__(self) -> Iterator[tuple[str, Event]]:
        """Yield every event until all connections have ended.

        Then raises :class:`~syncchat.errors.ConnectionClosed` if the last end was not orderly.
        """
        while True:
            try:
                found = self.receive()
            except ConnectionClosed as exc:
                if exc.code in ORDERLY:
                    return
                raise
            yield found

    def _next(self) -> tuple[str, Event] | None:
        """The next event; None: none waits. The calling thread has the turn."""
        for at, room in enumerate(self._order):
            if room in self._ends:
                continue
            try:
                event = self._clients[room].receive(timeout=0)
            except TimeoutError:
                continue
            except ConnectionClosed as exc:
                self._ends[room] = exc
                event = Disconnected(exc.code, exc.reason)
            self._order = [*self._order[at + 1 :], *self._order[: at + 1]]
            return room, event
        if len(self._ends) == len(self._clients):
            raise list(self._ends.values())[-1]
        return None

    def _are_open(self) -> bool:
        return all(client.opened for client in self._clients.values())

    def _for_all(self, call: Callable[[Client], ResultT]) -> list[ResultT]:
        """Call a function for all clients at the same time, since each may wait."""
        clients = self._clients.values()
        with ThreadPoolExecutor(len(clients), "syncchat-clients") as pool:
            try:
                return list(pool.map(call, clients))
            except BaseException:
                # Also ends the attempts of those that still wait for their server.
                for client in clients:
                    client.close(timeout=0)
                raise


def _in_room(url: str, room: str) -> str:
    """``url`` with the room as the last part of its path. The beginning may be a proxy's."""
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/{quote(room, safe='')}"
    return urlunsplit(parts._replace(path=path))
