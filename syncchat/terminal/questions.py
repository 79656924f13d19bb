"""Requests to the server, made by the user or by the client itself."""

from __future__ import annotations

import threading
from collections import deque

from ..chat.events import FromClient
from ..client import Client

__all__ = ["Questions"]


class Questions:
    """Requests of one kind. Only answers to the user's own requests are printed.

    Any thread may call every method.
    """

    def __init__(self, client: Client, question: FromClient) -> None:
        self._client = client
        self._question = question
        #: Guards the field below, and keeps its order equal to the order of sending.
        #: Taken before the client's lock in the lock order.
        self._lock = threading.Lock()
        #: For each unanswered request, whether the user made it.
        self._asked: deque[bool] = deque()

    def ask(self, *, by_person: bool) -> None:
        """Send the request to the server. Raises the same exceptions as :meth:`Client.ask`."""
        with self._lock:
            self._client.ask(self._question)
            self._asked.append(by_person)

    def answered(self) -> bool:
        """Note an answer or an error. Returns whether to print it."""
        with self._lock:
            return self._asked.popleft() if self._asked else True

    def forget(self) -> None:
        """Forget all requests: after the loss of the connection, none is answered any more."""
        with self._lock:
            self._asked.clear()
