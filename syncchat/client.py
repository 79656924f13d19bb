"""The chat client, for programs: connect, say, iterate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Self

from .chat.token import bearer
from .closecodes import NORMAL
from .net import WebSocket, connect
from .net.connector import parse_url
from .net.deadline import Deadline

__all__ = ["Client"]

#: Bytes of a line from the server: it shows a text of the usual limit with its
#: sender before it, and servers of other makes send more.
_MAX_LINE = 1024 * 1024


class Client:
    """One person's, or program's, place in a chat room::

        with Client("ws://127.0.0.1:2000/ops") as client:
            client.say("hello")
            for line in client:
                print(line)

    Talks to any WebSocket server that sends texts. ``timeout`` is the seconds
    that connecting may take, ``token`` the secret that the server asks for,
    ``ssl_context`` what ``wss:`` trusts, by default the system's certificates.
    Raises :class:`~syncchat.errors.InvalidURL`.
    Every method may be called from any thread.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        parse_url(url)
        #: Where the chat is.
        self.url = url
        self._timeout = timeout
        self._headers = [] if token is None else [bearer(token)]
        self._ssl_context = ssl_context
        self._websocket: WebSocket | None = None

    def connect(self) -> Self:
        """Connect; returns the client. Raises what :func:`syncchat.net.connect` does."""
        if self._websocket is not None and self._websocket.close_code is None:
            raise RuntimeError("the client is connected already")
        self.close()
        self._websocket = connect(
            self.url,
            ssl_context=self._ssl_context,
            headers=self._headers,
            open_timeout=self._timeout,
            max_message=_MAX_LINE,
        )
        return self

    def say(self, text: str) -> None:
        """Say ``text`` to the room, whatever it begins with; never blocks.

        Raises :class:`~syncchat.errors.ConnectionClosed`,
        :class:`RuntimeError` before :meth:`connect`, :class:`TypeError` for
        what is no text, :class:`UnicodeEncodeError` for a lone surrogate.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text is str, not {type(text).__name__}")
        # A slash at the beginning would make it a command.
        self.send_line("/" + text if text.startswith("/") else text)

    def send_line(self, line: str) -> None:
        """Send ``line`` as a person would type it: ``/help`` is a command. As :meth:`say`."""
        self._open().send(line)

    def flush(self, timeout: float | None = None) -> None:
        """Block until the network has taken what was said. Raises :class:`TimeoutError`."""
        self._open().flush(timeout)

    def receive(self, timeout: float | None = None) -> str:
        """The next line from the server, as it is: clean it before a terminal sees it.

        Raises :class:`TimeoutError` after ``timeout`` seconds, and
        :class:`~syncchat.errors.ConnectionClosed` after the last line.
        """
        deadline = Deadline.after(timeout)
        while True:
            message = self._open().recv(deadline.remaining())
            if isinstance(message, str):
                return message

    def __iter__(self) -> Iterator[str]:
        """Every line until the connection is closed.

        Raises :class:`~syncchat.errors.ConnectionClosed` at the end where it
        was not closed in order (code 1000, 1001 or none).
        """
        return (message for message in self._open() if isinstance(message, str))

    def leave(self) -> None:
        """Say that no more will be said, without waiting for the answer.

        What the server had still to send can be received; when the connection
        has ended, the server has had all that was said.
        """
        self._open().begin_close(NORMAL, "", Deadline.after(None))

    @property
    def close_code(self) -> int | None:
        """How the connection ended, None while it is open: :attr:`WebSocket.close_code`."""
        return None if self._websocket is None else self._websocket.close_code

    @property
    def close_reason(self) -> str | None:
        """The text that came with the close code, None while the connection is open."""
        return None if self._websocket is None else self._websocket.close_reason

    def close(self, timeout: float | None = None) -> None:
        """Leave with a proper close, and give the socket back. Nothing if it is closed.

        Waits for the server's answer for ``timeout`` seconds, by default 10.
        """
        if self._websocket is not None:
            self._websocket.close(timeout=timeout)

    def __enter__(self) -> Self:
        return self if self._websocket is not None else self.connect()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self) -> WebSocket:
        if self._websocket is None:
            raise RuntimeError("the client is not connected: call connect(), or use with")
        return self._websocket
