"""The worker: prints what comes from the server, and notes how the connection is."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from concurrent.futures import Future

from ..chat.events import Away, AwayRequest, Back, Error, Names, Rooms, Welcome
from ..client import Client, Disconnected, Event, Reconnected
from ..errors import ConnectionClosed, NotConnected
from .people import People
from .prompt import Prompt
from .questions import Questions
from .renderer import Renderer
from .room_cache import RoomCache
from .sanitize import sanitized
from .scrollback import Scrollback

__all__ = ["Printer"]

#: Seconds between two measurements of the round trip, and two of the countdown.
_MEASURE, _COUNT = 10.0, 0.5

#: Seconds between two questions for the names where the server sends no notices:
#: so many at least, and so many for each person in the room. With the latter, the
#: answers to all that are in a large room do not grow with the square of their number.
_ASK_NAMES, _ASK_NAMES_PER_PERSON = 10.0, 0.1


class Printer(threading.Thread):
    """Ends, and ends the prompt, when nothing more can come."""

    def __init__(
        self,
        client: Client,
        renderer: Renderer,
        people: People,
        rooms: RoomCache,
        names: Questions,
        scrollback: Scrollback,
        prompt: Prompt,
    ) -> None:
        super().__init__(name="syncchat-printer", daemon=True)
        self._client = client
        self._renderer = renderer
        self._people = people
        self._rooms = rooms
        self._names = names
        self._scrollback = scrollback
        self._prompt = prompt
        self._measure_at = 0.0
        #: When the client asks for the names; never where notices tell them.
        self._names_at = math.inf
        #: When the ping was sent that is not answered.
        self._asked_at: float | None = None
        self._returning = False
        #: How the server ended the conversation, if it was the server.
        self.outcome: ConnectionClosed | None = None
        #: Why it ended where nobody wanted it to.
        self.failure: Exception | None = None
        #: The last round trip in seconds.
        self.latency: float | None = None
        #: Why one is away; None: one is not.
        self.away: str | None = None

    @property
    def silence(self) -> float:
        """Seconds for which the server has owed an answer; 0: it owes none. From any thread."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def run(self) -> None:
        """Print until the connection is over, which the owner's ``close`` brings about."""
        try:
            while True:
                self._ask_names()
                try:
                    event = sanitized(self._client.receive(self._pause()))
                except TimeoutError:
                    self._look()
                    continue
                self._take_notice(event)
                self._print(event)
        except ConnectionClosed as exc:
            self.outcome = exc
        except Exception as exc:  # noqa: BLE001 - told by the owner, when the screen is its own
            self.failure = exc
        finally:
            self._prompt.end()

    def _print(self, event: Event) -> None:
        if not self._to_print(event):
            return
        blocks = list(self._renderer.paint(event))
        if blocks:
            self._scrollback.add(*blocks)
        else:
            self._prompt.refresh()

    def _to_print(self, event: Event) -> bool:
        """Whether it is for people, and no answer to a question of the client's own."""
        failed = event.command if isinstance(event, Error) else None
        if isinstance(event, Rooms) or failed == "rooms":
            if isinstance(event, Rooms):
                self._rooms.note(event)
            if not self._rooms.questions.answered():
                self._prompt.complete_again()
                return False
        elif (isinstance(event, Names) or failed == "names") and not self._names.answered():
            self._prompt.refresh()
            return False
        return True

    def _take_notice(self, event: Event) -> None:
        self._people.note(event)
        if isinstance(event, Away | Back) and event.nick == self._client.nick:
            self.away = event.reason if isinstance(event, Away) else None
        elif isinstance(event, Disconnected):
            self._rooms.questions.forget()
            self._names.forget()
            self._names_at = math.inf
            self.latency = self._asked_at = None
        elif isinstance(event, Reconnected):
            self._returning = True
        elif isinstance(event, Welcome):
            self._measure_at = 0.0
            self._names_at = math.inf if event.notices else self._next_names_at()
            if self._returning and self.away is not None:
                # Which the server does not know of a new connection. Where it
                # is lost again, it is said when that has come back.
                with contextlib.suppress(NotConnected, ConnectionClosed):
                    self._client.ask(AwayRequest(self.away))
            self._returning = False

    def _pause(self) -> float:
        if self._client.retry_in is not None or self._asked_at is not None:
            return _COUNT
        return max(0.0, min(self._measure_at, self._names_at) - time.monotonic())

    def _next_names_at(self) -> float:
        pause = max(_ASK_NAMES, _ASK_NAMES_PER_PERSON * self._people.count)
        return time.monotonic() + pause

    def _ask_names(self) -> None:
        """Ask who is here, if it is time: the server does not tell who comes and goes."""
        if time.monotonic() < self._names_at:
            return
        self._names_at = self._next_names_at()
        # Where the connection is lost, the next event tells.
        with contextlib.suppress(NotConnected, ConnectionClosed):
            self._names.ask(by_person=False)

    def _look(self) -> None:
        """Nothing has come for a moment."""
        if self._client.retry_in is not None or self._asked_at is not None:
            self._prompt.refresh()
            return
        if time.monotonic() < self._measure_at:
            return
        self._asked_at = time.monotonic()
        self._measure_at = self._asked_at + _MEASURE
        # Where it is lost, the next event tells.
        with contextlib.suppress(ConnectionClosed):
            self._client.ping().add_done_callback(self._measured)

    def _measured(self, pong: Future[float]) -> None:
        """On the client's thread."""
        self._asked_at = None
        if pong.exception() is None:
            self.latency = pong.result()
            self._prompt.refresh()
