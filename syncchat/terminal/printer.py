"""The printer thread: prints the server's events, and tracks the state of the connection."""

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

#: Seconds between two measurements of the round trip, and between two updates of a countdown.
_MEASURE, _COUNT = 10.0, 0.5

#: Seconds between two requests for the names, if the server sends no notices: a
#: minimum, and a part per person in the room. Because of the latter, the total traffic
#: of these requests in a large room does not grow with the square of its size.
_ASK_NAMES, _ASK_NAMES_PER_PERSON = 10.0, 0.1


class Printer(threading.Thread):
    """The thread that prints. It ends the prompt when no more events can arrive."""

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
        #: When to ask for the names again; never if notices tell who comes and leaves.
        self._names_at = math.inf
        #: When the unanswered ping was sent; None if there is none.
        self._asked_at: float | None = None
        self._returning = False
        #: How the connection ended; None until then.
        self.outcome: ConnectionClosed | None = None
        #: The unexpected exception that ended the thread; None if there was none.
        self.failure: Exception | None = None
        #: The last round trip in seconds; None if unknown.
        self.latency: float | None = None
        #: The reason why the user is away; None if not away.
        self.away: str | None = None

    @property
    def silence(self) -> float:
        """Seconds since the unanswered ping; 0 if there is none. Any thread may read this."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def run(self) -> None:
        """Print until the connection ends; the main thread ends it with the client's ``close``."""
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
        except Exception as exc:  # noqa: BLE001 - reported by the main thread after the prompt
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
        """Whether to print the event: not if it answers a request that the client itself made."""
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
                # The server does not know that this new connection is away. If it
                # breaks again, the next welcome repeats the request.
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
        """Ask for the names if it is time: this server does not tell who comes and leaves."""
        if time.monotonic() < self._names_at:
            return
        self._names_at = self._next_names_at()
        # A lost connection shows in the next event.
        with contextlib.suppress(NotConnected, ConnectionClosed):
            self._names.ask(by_person=False)

    def _look(self) -> None:
        """Update the screen, or measure the round trip, after a moment without events."""
        if self._client.retry_in is not None or self._asked_at is not None:
            self._prompt.refresh()
            return
        if time.monotonic() < self._measure_at:
            return
        self._asked_at = time.monotonic()
        self._measure_at = self._asked_at + _MEASURE
        # A lost connection shows in the next event.
        with contextlib.suppress(ConnectionClosed):
            self._client.ping().add_done_callback(self._measured)

    def _measured(self, pong: Future[float]) -> None:
        """Store the round trip. Called on the client's thread."""
        self._asked_at = None
        if pong.exception() is None:
            self.latency = pong.result()
            self._prompt.refresh()
