"""A TCP proxy, on one thread, whose connections break in the ways of a network."""

from __future__ import annotations

import contextlib
import errno
import random
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum, auto
from queue import SimpleQueue
from typing import Self

__all__ = ["Mode", "Proxy"]

#: Bytes that are read at once; more are read when they are written.
_PIECE = 65536

#: Bytes that the kernel takes from a server for a client that does not read, and in a segment.
_BUFFER, _SEGMENT = 4096, 1400

#: Seconds between two bytes of a connection that drips.
_DRIP = 0.002

#: Makes a close send RST.
_LINGER = struct.pack("ii", 1, 0)


class Mode(Enum):
    """What happens with the bytes of a connection."""

    PASS = auto()
    #: They are not read, so that the sender's network is full soon.
    STALL = auto()
    #: They are forwarded one by one.
    DRIP = auto()
    #: They are read and dropped, as by a firewall that has forgotten the connection.
    SWALLOW = auto()
    #: So are those of the server only.
    SWALLOW_ANSWERS = auto()


class _Flow:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.waiting = b""
        #: The source has sent its last byte; the sink has been told.
        self.ended = self.closed = False


class _Link:
    """A connection of a client, and the one to the server that belongs to it."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.mode = Mode.PASS
        self.there = _Flow(near, far)
        self.back = _Flow(far, near)

    @property
    def flows(self) -> tuple[_Flow, _Flow]:
        return self.there, self.back

    def swallows(self, flow: _Flow) -> bool:
        """Whether the bytes of ``flow`` are dropped."""
        if self.mode is Mode.SWALLOW_ANSWERS:
            return flow is self.back
        return self.mode is Mode.SWALLOW

    def interest(self, sock: socket.socket) -> int:
        """What to wait for at this socket."""
        events = 0
        if self.mode is Mode.STALL:
            return events
        for flow in self.flows:
            if sock is flow.source and not flow.ended and not flow.waiting:
                events |= selectors.EVENT_READ
            if sock is flow.sink and flow.waiting and self.mode is not Mode.DRIP:
                events |= selectors.EVENT_WRITE
        return events


class Proxy:
    """Forwards connections to ``target``, the port of a server, which may change, at ``host``.

    Any thread may call the methods; what they do is done on the proxy's thread, ``proxy:PORT``,
    when they return. :meth:`close` joins it.
    """

    def __init__(self, target: int = 0, host: str = "127.0.0.1") -> None:
        self.target = target
        # Resolved once: the proxy's thread must not wait for names.
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        self._family: int = found[0]
        self._host = str(found[4][0])
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        self._orders: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        self._alarm, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        self._alarm.setblocking(False)
        # Only the proxy's thread uses the fields below.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._alarm, selectors.EVENT_READ)
        self._links: dict[socket.socket, _Link] = {}
        self._running = True
        self._thread = threading.Thread(target=self._run, name=f"proxy:{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Reset all connections, and join the thread."""
        self._order(self._stop)
        self._thread.join()

    def reset(self, part: float, chance: random.Random) -> None:
        """End a part of the connections with RST, on both sides."""
        self._order(lambda: self._each(part, chance, self._reset))

    def cut(self, part: float, chance: random.Random) -> None:
        """End a part of the connections with FIN, at any point of their traffic."""
        self._order(lambda: self._each(part, chance, self._close))

    def change(self, mode: Mode, part: float, chance: random.Random) -> None:
        """Set the mode of a part of the connections."""

        def set_mode(link: _Link) -> None:
            if link.mode is Mode.PASS:
                link.mode = mode
                self._watch(link)

        self._order(lambda: self._each(part, chance, set_mode))

    def heal(self, mode: Mode) -> None:
        """End a mode. Connections that have lost bytes by it are reset."""

        def healed(link: _Link) -> None:
            if link.mode is not mode:
                return
            if mode in {Mode.SWALLOW, Mode.SWALLOW_ANSWERS}:
                self._reset(link)
                return
            link.mode = Mode.PASS
            self._watch(link)

        self._order(lambda: self._each(1.0, random.Random(0), healed))

    def _order(self, order: Callable[[], None]) -> None:
        """Have ``order`` carried out on the proxy's thread, and wait for that."""
        done = threading.Event()
        self._orders.put((order, done))
        try:
            self._wakeup.send(b"\0")
        except BlockingIOError:
            pass  # It is awake already.
        except OSError:
            return  # It has ended.
        while self._thread.is_alive() and not done.wait(0.1):
            pass

    # The proxy's thread.

    def _run(self) -> None:
        with self._selector, self._alarm, self._wakeup, self._listening:
            while self._running:
                drips = {link for link in self._links.values() if link.mode is Mode.DRIP}
                for key, events in self._selector.select(_DRIP if drips else None):
                    if key.fileobj is self._listening:
                        self._accept()
                    elif key.fileobj is self._alarm:
                        self._obey()
                    elif isinstance(key.fileobj, socket.socket):
                        self._serve(key.fileobj, events)
                for link in drips:
                    # Unless it has ended meanwhile.
                    if link.there.source in self._links:
                        self._drip(link)

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._alarm.recv(4096)
        while not self._orders.empty():
            order, done = self._orders.get()
            order()
            done.set()

    def _stop(self) -> None:
        self._running = False
        self._each(1.0, random.Random(0), self._reset)

    def _each(self, part: float, chance: random.Random, act: Callable[[_Link], None]) -> None:
        for link in dict.fromkeys(self._links.values()):
            if chance.random() <= part:
                act(link)

    def _accept(self) -> None:
        try:
            near, _ = self._listening.accept()
        except OSError:
            return  # It has ended meanwhile.
        near.setblocking(False)
        far = socket.socket(self._family)
        # Before it connects. The kernel of the server takes as many bytes for a client that
        # does not read as on a real network; on loopback it would take megabytes.
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        far.setblocking(False)
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(near, far)
        if far.connect_ex((self._host, self.target)) not in {0, errno.EINPROGRESS}:
            self._reset(link)
            return
        self._links[near] = self._links[far] = link
        self._watch(link)

    def _serve(self, sock: socket.socket, events: int) -> None:
        link = self._links.get(sock)
        if link is None:
            return
        try:
            if events & selectors.EVENT_READ:
                self._read(link, link.there if sock is link.there.source else link.back)
            if events & selectors.EVENT_WRITE:
                flow = link.there if sock is link.there.sink else link.back
                self._write(flow, len(flow.waiting))
            self._finish(link)
        except BlockingIOError:
            pass  # The connection to the server is not there yet.
        except OSError:
            self._reset(link)
            return
        self._watch(link)

    def _read(self, link: _Link, flow: _Flow) -> None:
        data = flow.source.recv(_PIECE)
        flow.ended = not data
        if link.swallows(flow):
            return
        flow.waiting += data
        if link.mode is not Mode.DRIP:
            self._write(flow, len(flow.waiting))

    @staticmethod
    def _write(flow: _Flow, most: int) -> None:
        if flow.waiting:
            with contextlib.suppress(BlockingIOError):
                flow.waiting = flow.waiting[flow.sink.send(flow.waiting[:most]) :]

    def _drip(self, link: _Link) -> None:
        try:
            for flow in link.flows:
                self._write(flow, 1)
            self._finish(link)
        except OSError:
            self._reset(link)
            return
        self._watch(link)

    def _finish(self, link: _Link) -> None:
        """Hand the ends of the directions on."""
        for flow in link.flows:
            if flow.ended and not flow.waiting and not flow.closed and not link.swallows(flow):
                flow.closed = True
                flow.sink.shutdown(socket.SHUT_WR)
        if all(flow.closed for flow in link.flows):
            self._close(link)

    def _watch(self, link: _Link) -> None:
        """Wait for what can be done next."""
        if link.there.source not in self._links:
            return
        for sock in (link.there.source, link.back.source):
            events = link.interest(sock)
            watched = sock in self._selector.get_map()
            if not events:
                if watched:
                    self._selector.unregister(sock)
            elif watched:
                self._selector.modify(sock, events)
            else:
                self._selector.register(sock, events)

    def _reset(self, link: _Link) -> None:
        for flow in link.flows:
            flow.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self._close(link)

    def _close(self, link: _Link) -> None:
        for flow in link.flows:
            self._links.pop(flow.source, None)
            if flow.source in self._selector.get_map():
                self._selector.unregister(flow.source)
            flow.source.close()
