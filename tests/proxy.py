"""A TCP proxy whose connections break in the ways of a network."""

from __future__ import annotations

import random
import socket
import struct
import threading
from pathlib import Path
from typing import Self

__all__ = ["Proxy"]


class Proxy:
    """Forwards bytes between clients and the server, until a connection is cut or silenced.

    ``target`` is the server's port, or the path of its socket.
    """

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        #: Guards the list.
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        #: The sockets whose data is discarded.
        self._swallowed: set[socket.socket] = set()
        #: The sockets whose connections are to end with RST.
        self._resets: set[socket.socket] = set()
        #: From these words on, nothing is handed back to the client that sends them.
        self._trigger: bytes | None = None
        self._threads = [threading.Thread(target=self._accept, name="proxy")]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join()
        self.cut(1.0, random.Random(0))
        for thread in self._threads:
            thread.join()

    def cut(self, part: float, chance: random.Random) -> None:
        """Cut this fraction of the connections, at any point of their traffic."""
        with self._lock:
            pairs = [pair for pair in self._pairs if chance.random() <= part]
        for pair in pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def reset(self) -> None:
        """End the current connections with RST, on both sides."""
        with self._lock:
            socks = [sock for pair in self._pairs for sock in pair]
            self._resets.update(socks)
        for sock in socks:
            try:
                # Sends nothing, but wakes the thread that reads.
                sock.shutdown(socket.SHUT_RD)
            except OSError:
                continue

    def swallow(self) -> None:
        """Forward nothing more on the current connections, and leave them open."""
        with self._lock:
            self._swallowed.update(sock for pair in self._pairs for sock in pair)

    def swallow_answers(self) -> None:
        """Hand on what clients send, but nothing back, on the connections that there are."""
        with self._lock:
            self._swallowed.update(far for _, far in self._pairs)

    def swallow_answers_to(self, words: bytes) -> None:
        """The same for each connection from the moment at which a client sends ``words``, once."""
        self._trigger = words

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = self._connected()
            except OSError:
                near.close()
                continue
            with self._lock:
                self._pairs.append((near, far))
            thread = threading.Thread(target=self._carry, args=(near, far), name="proxied")
            self._threads.append(thread)
            thread.start()

    def _connected(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self._target))
        except OSError:
            sock.close()
            raise
        return sock

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._hand_on, args=(far, near), name="proxied back")
        back.start()
        self._hand_on(near, far, triggers=True)
        back.join()
        with self._lock:
            self._pairs.remove((near, far))
        for sock in (near, far):
            if sock in self._resets:
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self._resets.discard(sock)
            sock.close()

    def _hand_on(
        self, source: socket.socket, sink: socket.socket, *, triggers: bool = False
    ) -> None:
        try:
            while data := source.recv(65536):
                if triggers and self._trigger is not None and self._trigger in data:
                    self._trigger = None
                    self._swallowed.add(sink)
                if source not in self._swallowed:
                    sink.sendall(data)
        except OSError:
            pass
        if source in self._resets:
            return
        for sock in (source, sink):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
