"""Non-blocking writes of a server's log lines to its standard output.

A terminal that is stopped with Ctrl+S, or a pipe whose reader sleeps, must not
block the threads that serve clients. So a line is written without blocking, and
what remains is queued and written by an I/O thread.
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

#: Bytes that may be queued. Further lines are dropped and counted.
_MAX_QUEUED = 1024 * 1024


class LogWriter:
    """Writes complete lines to a file descriptor; never blocks on a terminal or a pipe.

    Any thread may call ``print``. The owner calls ``close`` once.
    """

    def __init__(self, descriptor: int) -> None:
        self._io_thread = IOThread("syncchat-log")
        self._own = _reopen(descriptor)
        self._descriptor = descriptor if self._own is None else self._own
        self._socket = _socket_of(descriptor)
        #: Guards the fields below and the order of writes. Before the I/O thread's
        #: lock in the lock order.
        self._lock = threading.Lock()
        self._queue = bytearray()
        self._lost = 0
        self._watched = False
        #: Nothing can be written any more.
        self._broken = False
        self._emptied = threading.Condition(self._lock)

    def print(self, line: str) -> None:
        """Write or queue ``line`` and a newline. Never blocks on a terminal or a pipe."""
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
        """Wait up to ``timeout`` seconds until the queue is written, then release everything."""
        deadline = Deadline.after(timeout)
        with self._lock:
            self._emptied.wait_for(lambda: not self._watched, deadline.remaining())
        self._io_thread.stop()
        if self._own is not None:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()

    # For the I/O thread.

    def fileno(self) -> int:
        """The descriptor to which the lines are written."""
        return self._descriptor

    def flush(self) -> bool:
        """Write what the descriptor accepts. True: nothing is left."""
        with self._lock:
            return self._write_locked()

    def release(self) -> bool:
        """End the watch of the I/O thread. False: lines were queued meanwhile."""
        with self._lock:
            if self._queue:
                return False
            self._watched = False
            self._emptied.notify_all()
            return True

    def abandon(self) -> None:
        """Drop the queue: the I/O thread has ended, so nothing more is written."""
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
                # The terminal is closed, the pipe has no reader, or the disk is
                # full. The server continues without its standard output.
                self._broken = True
                continue
            del self._queue[:written]
            if self._lost and not self._queue:
                self._queue += b"(%d lines were not shown)\n" % self._lost
                self._lost = 0
        return True


def _socket_of(descriptor: int) -> socket.socket | None:
    """The socket behind ``descriptor``, which a service manager may set as the output.

    None if it is not a socket.
    """
    if not hasattr(socket, "MSG_DONTWAIT") or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    return socket.socket(fileno=os.dup(descriptor))


def _reopen(descriptor: int) -> int | None:
    """A second, non-blocking descriptor for the same terminal or pipe, if that is possible.

    Setting ``O_NONBLOCK`` on the descriptor itself would set it for every process
    that shares the terminal, including the shell. Regular files do not need it.
    Writes to any other kind of file may block.
    """
    with contextlib.suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if hasattr(os, "O_NONBLOCK") and (stat.S_ISFIFO(mode) or os.isatty(descriptor)):
            flags = os.O_WRONLY | os.O_NONBLOCK | getattr(os, "O_NOCTTY", 0)
            return os.open(f"/dev/fd/{descriptor}", flags)
    return None
