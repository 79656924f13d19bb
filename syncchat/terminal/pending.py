"""What one has said and the server has not acknowledged: shown above the prompt until it is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from ..chat.events import Message

__all__ = ["Pending"]


class Pending:
    """By nonce, in the order of saying. From any thread."""

    def __init__(self) -> None:
        #: Guards both; before the client's lock in the lock order, so that no
        #: answer is looked at before its question stands here.
        self._lock = threading.Lock()
        #: What is not answered.
        self._open: dict[str, Message] = {}
        #: What stands above the prompt: also what is answered, until the answer
        #: is on the screen.
        self._shown: dict[str, Message] = {}

    def send(
        self,
        send: Callable[[], str | None],
        message: Message,
        show: Callable[[], None],
    ) -> None:
        """Send something, and note ``message`` under the nonce that ``send`` returns.

        Where there is none, the server sends no acknowledgement: ``show`` is called to
        print the text, before any answer to it is printed. Raises what ``send`` does.
        """
        with self._lock:
            nonce = send()
            if nonce is None:
                show()
            else:
                noted = msgspec.structs.replace(message, nonce=nonce)
                self._open[nonce] = self._shown[nonce] = noted

    def let_be_shown(self) -> None:
        """Block while another thread is in :meth:`send`: its text is printed before an answer."""
        with self._lock:
            pass

    def settle(self, nonce: str) -> Message | None:
        """It is answered; what it was, or None for a stranger's, or one that was before."""
        with self._lock:
            return self._open.pop(nonce, None)

    @property
    def unanswered(self) -> list[Message]:
        """What the server has not acknowledged, the oldest first."""
        with self._lock:
            return list(self._open.values())

    def printed(self, nonce: str) -> None:
        """The answer is on the screen."""
        with self._lock:
            self._shown.pop(nonce, None)

    @property
    def shown(self) -> list[Message]:
        """What stands above the prompt, the oldest first."""
        with self._lock:
            return list(self._shown.values())
