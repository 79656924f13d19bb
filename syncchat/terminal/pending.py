"""The pending messages: sent but not acknowledged, and shown above the prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from ..chat.events import Message

__all__ = ["Pending"]


class Pending:
    """Pending messages by nonce, in the order of sending. Any thread may call every method."""

    def __init__(self) -> None:
        #: Guards both dictionaries. Taken before the client's lock in the lock order,
        #: and held while a message is sent, so that no answer is handled before its
        #: message is stored here.
        self._lock = threading.Lock()
        #: The messages that the server has not answered.
        self._open: dict[str, Message] = {}
        #: The messages shown above the prompt, also answered ones until the answer is
        #: on the screen.
        self._shown: dict[str, Message] = {}

    def send(
        self,
        send: Callable[[], str | None],
        message: Message,
        show: Callable[[], None],
    ) -> None:
        """Call ``send``, and store ``message`` under the nonce that it returns.

        Without a nonce, the server sends no acknowledgement. Then ``show`` is called to
        print the text, before any answer to it is printed. Raises what ``send`` raises.
        """
        with self._lock:
            nonce = send()
            if nonce is None:
                show()
            else:
                noted = msgspec.structs.replace(message, nonce=nonce)
                self._open[nonce] = self._shown[nonce] = noted

    def let_be_shown(self) -> None:
        """Block while another thread is in :meth:`send`, so that its text is printed first."""
        with self._lock:
            pass

    def settle(self, nonce: str) -> Message | None:
        """Note an answer. Returns its message; None if the nonce is unknown or already answered."""
        with self._lock:
            return self._open.pop(nonce, None)

    @property
    def unanswered(self) -> list[Message]:
        """The messages that the server has not acknowledged, oldest first."""
        with self._lock:
            return list(self._open.values())

    def printed(self, nonce: str) -> None:
        """Note that the answer is on the screen."""
        with self._lock:
            self._shown.pop(nonce, None)

    @property
    def shown(self) -> list[Message]:
        """The messages to show above the prompt, oldest first."""
        with self._lock:
            return list(self._shown.values())
