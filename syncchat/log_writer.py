"""A server's standard output, treated as what it is: one more consumer that may be slow.

A terminal that somebody stopped with Ctrl+S, or a pipe whose reader sleeps,
must not hold up the threads that serve clients. So a line is written without
blocking or queued, and the rest is a flusher's work.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading

from .net.deadline import Deadline
from .net.io_thread import IOThread

__all__ = ["LogWriter"]

#: Bytes that may wait for a console that takes nothing; lines beyond are counted, not kept.
_MAX_QUEUED = 1024 * 1024


class LogWriter:
    """Writes lines to a file descriptor, each whole, never blocking on a terminal or a pipe.

    ``print`` may be called from any thread; ``close`` by the owner, once.
    """

    def __init__(self, descriptor: int) -> None:
        self._io_thread = IOThread("syncchat-log")
        self._own = _reopen(descriptor)
        self._descriptor = descriptor if self._own is None else self._own
        self._socket = _socket_of(descriptor)
        #: Guards the fields below and the order of writes. Before the flusher's lock.
        self._lock = threading.Lock()
        self._queue = bytearray()
        self._lost = 0
        self._watched = False
        #: Nobody reads any more.
        self._broken = False
        self._emptied = threading.Condition(self._lock)

    def print(self, line: str) -> None:
        """Write ``line`` and a newline."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        with self._lock:
            if len(self._queue) + len(data) > _MAX_QUEUED:
                self._lost += 1
                return
            self._queue += data
            if self._watched:
                return
            self._watched = not self._write_locked()
            if not self._watched:
                return
        self._io_thread.watch(self)

    def close(self, timeout: float = 1.0) -> None:
        """Give what is queued ``timeout`` seconds to get out, then let go."""
        deadline = Deadline.after(timeout)
        with self._lock:
            self._emptied.wait_for(lambda: not self._watched, deadline.remaining())
        self._io_thread.stop()
        if self._own is not None:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()

    # The flusher's side.

    def fileno(self) -> int:
        """The descriptor that is written to."""
        return self._descriptor

    def flush(self) -> bool:
        """Write what is taken. True: nothing is left."""
        with self._lock:
            return self._write_locked()

    def release(self) -> bool:
        """No longer watched. False: lines have come meanwhile."""
        with self._lock:
            if self._queue:
                return False
            self._watched = False
            self._emptied.notify_all()
            return True

    def abandon(self) -> None:
        """The flusher is gone: nothing more is written."""
        with self._lock:
            self._queue.clear()
            self._broken = True

    def _write(self, data: bytearray) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)

    def _write_locked(self) -> bool:
        while self._queue:
            if self._broken:
                self._queue.clear()
                break
            try:
                written = self._write(self._queue)
            except BlockingIOError:
                return False
            except OSError:
                # The terminal is closed, the pipe's reader has gone, the disk
                # is full. The chat goes on without a console.
                self._broken = True
                continue
            del self._queue[:written]
            if self._lost and not self._queue:
                self._queue += b"(%d lines were not shown)\n" % self._lost
                self._lost = 0
        return True


def _socket_of(descriptor: int) -> socket.socket | None:
    """The socket that a service manager gave us as output, if it is one."""
    if not hasattr(socket, "MSG_DONTWAIT") or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    return socket.socket(fileno=os.dup(descriptor))


def _reopen(descriptor: int) -> int | None:
    """A non-blocking descriptor for the same terminal or pipe; None where there is none.

    Setting ``O_NONBLOCK`` on the descriptor itself would set it for every
    process that shares the terminal, the shell among them. A regular file
    takes every write, and everything else blocks as it always did.
    """
    with contextlib.suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if hasattr(os, "O_NONBLOCK") and (stat.S_ISFIFO(mode) or os.isatty(descriptor)):
            flags = os.O_WRONLY | os.O_NONBLOCK | getattr(os, "O_NOCTTY", 0)
            return os.open(f"/dev/fd/{descriptor}", flags)
    return None
