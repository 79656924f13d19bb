"""What systemd and a service tell each other.

See sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3).

Elsewhere nothing is told, and no sockets are inherited.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

from ..errors import CannotListen
from ..net import Deadline

__all__ = ["ServiceManager", "inherited_sockets"]

logger = logging.getLogger("syncchat.cli")

#: The first descriptor that is passed.
_FIRST = 3
#: Seconds that a service manager whose queue is full has to read from it.
_PATIENCE = 2.0
#: Seconds between two looks at the status.
_STATUS = 10.0


def inherited_sockets() -> list[socket.socket] | None:
    """The listening sockets that the service manager has passed; None: it has passed none.

    Raises :class:`CannotListen` for a socket at which TCP does not listen.
    """
    pid, count = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS"))
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or not int(count):
        return None
    sockets = []
    for number in range(_FIRST, _FIRST + int(count)):
        os.set_inheritable(number, False)
        try:
            sock = socket.socket(fileno=number)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as exc:
            raise CannotListen(f"descriptor {number} of LISTEN_FDS: {exc.strerror}") from None
        if not listens or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise CannotListen(f"descriptor {number} of LISTEN_FDS is no TCP socket that listens")
        sockets.append(sock)
    return sockets


class ServiceManager:
    """Tells the service manager about this process. Only one thread at a time may use it."""

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        pid = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        limit = os.environ.pop("WATCHDOG_USEC", "")
        #: An @ stands for the NUL of an abstract address.
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        if not hasattr(socket, "AF_UNIX"):
            self._address = ""
        watched = limit.isdecimal() and pid == str(os.getpid())
        #: Seconds between two calls of :meth:`beat`; None: nobody listens.
        self.period: float | None = None
        if self._address:
            self.period = min(_STATUS, int(limit) / 2e6) if watched else _STATUS
        self._is_watched = bool(watched)
        self._next = Deadline.after(0)
        self._status = ""

    def tell(self, **fields: str | int) -> None:
        """Send these fields, such as ``READY=1``."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_PATIENCE)
                sock.sendto(text.encode(), self._address)
        except OSError as exc:
            logger.warning("cannot tell the service manager: %s", exc.strerror or exc)

    def tell_reloading(self) -> None:
        """Tell that the settings are being read again; ``READY=1`` must follow."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    @property
    def wait(self) -> float | None:
        """Seconds until :meth:`beat` is due; None: never."""
        return None if self.period is None else self._next.remaining()

    def beat(self, look: Callable[[], tuple[bool, str]]) -> None:
        """If it is due, tell the watchdog that the server works, if it does, and its status.

        ``look`` returns both.
        """
        if self.period is None or not self._next.expired:
            return
        self._next = Deadline.after(self.period)
        works, status = look()
        if works and self._is_watched:
            self.tell(WATCHDOG=1)
        if status != self._status:
            self._status = status
            self.tell(STATUS=status)
