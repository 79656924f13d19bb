"""Questions to the server, some asked by a person and some by the client itself."""

from __future__ import annotations

import threading
from collections import deque

from ..chat.events import FromClient
from ..client import Client

__all__ = ["Questions"]


class Questions:
    """Questions of one kind. Only the answer to a person's question is printed.

    Every method may be called from any thread.
    """

    def __init__(self, client: Client, question: FromClient) -> None:
        self._client = client
        self._question = question
        #: Guards what follows, and that questions stand in the order in which
        #: they are asked. Before the client's lock in the lock order.
        self._lock = threading.Lock()
        #: For each question that is not answered, whether a person asked it.
        self._asked: deque[bool] = deque()

    def ask(self, *, by_person: bool) -> None:
        """Ask the server. Raises as :meth:`Client.ask`."""
        with self._lock:
            self._client.ask(self._question)
            self._asked.append(by_person)

    def answered(self) -> bool:
        """An answer or an error has come: whether it is to be printed."""
        with self._lock:
            return self._asked.popleft() if self._asked else True

    def forget(self) -> None:
        """The connection was lost: nothing that was asked is going to be answered."""
        with self._lock:
            self._asked.clear()
