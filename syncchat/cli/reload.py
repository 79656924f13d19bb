"""Takes up what has changed in the settings and the certificate, while the server runs."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ..eventlog import Reloaded, Warned
from ..server import ChatServer
from .server_configuration import ServerConfiguration
from .settings import WrongSetting

__all__ = ["Reloader"]

#: Seconds between two looks at the files of the certificate. A change is taken up at the second
#: look that sees it, when both files have been written.
_LOOK = 15.0

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Reloader:
    """Reloads the settings of a server that runs. Any thread may call every method."""

    def __init__(
        self, configuration: ServerConfiguration, server: ChatServer, output: int | None
    ) -> None:
        self._configuration, self._server, self._output = configuration, server, output
        #: Guards the configuration and the fields below: one reload at a time.
        self._lock = threading.Lock()
        #: The certificate that is used, or that has been tried; and the one that was seen last.
        self._used = self._seen = self._stamp()
        self._looked_at = time.monotonic()

    def reload(self) -> str:
        """Read all settings again, and use those that can be changed now.

        Returns what has changed, and what needs a restart. Without effect if a setting is wrong:
        raises :class:`WrongSetting`.
        """
        with self._lock:
            self._used = self._seen = self._stamp()
            try:
                changed, rest = self._configuration.reload()
            except WrongSetting as exc:
                self._server.note(Warned(f"not reloaded: {exc}"))
                raise
            self._apply()
        names = ", ".join(changed) or "no setting"
        text = f"{names} changed; the files of the certificate and tokens are read again"
        if rest:
            text += f"; a restart is needed for {', '.join(rest)}"
        self._server.note(Reloaded(text))
        return text

    def look(self, *, at_once: bool = False) -> None:
        """Take up a certificate that has changed on disk. To be called often, and costs little."""
        now = time.monotonic()
        with self._lock:
            if now - self._looked_at < _LOOK and not at_once:
                return
            self._looked_at = now
            stamp = self._stamp()
            before, self._seen = self._seen, stamp
            if stamp == self._used or stamp != before:
                return
            self._used = stamp
            try:
                self._configuration.reload_certificate()
            except WrongSetting as exc:
                self._server.note(Warned(f"the earlier certificate stays in use: {exc}"))
                return
            self._apply()
        self._server.note(Reloaded("the certificate has changed"))

    def _apply(self) -> None:
        assert self._lock.locked()
        self._server.reconfigure(**self._configuration.changeable(self._output))
        level = self._configuration.options.log_level.upper()
        logging.getLogger("syncchat").setLevel(level)

    def _stamp(self) -> _Stamp:
        """What changes when the files of the certificate change."""
        options = self._configuration.options
        files = [options.tls_cert, options.tls_key]
        return tuple(_stamp_of(each) for each in files if each is not None)


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        # It is being replaced, or loading it will tell why not.
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
