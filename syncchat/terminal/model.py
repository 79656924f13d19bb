"""What the terminal client knows: people, rooms, pending messages, requests, preferences."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

import msgspec

from ..chat.dialects import LineFormat
from ..chat.events import (
    Ack,
    Activity,
    Away,
    Back,
    Bans,
    Done,
    Error,
    FromClient,
    History,
    Joined,
    Left,
    Message,
    Moderated,
    Motd,
    Names,
    NamesRequest,
    PrivateMessage,
    ReadOnly,
    Renamed,
    Rooms,
    RoomsRequest,
    Search,
    Topic,
    Welcome,
    Whois,
)
from ..client import Disconnected, Event, Gap, Line, Reconnected, Sent
from .snapshot import Preferences, Snapshot

__all__ = ["Model"]

#: The most speakers that are remembered, present or not.
_MOST_SPEAKERS = 1000

#: Seconds for which the server's list of rooms counts as current.
_FRESH = 5.0

#: How to show messages before the server has told its format.
_DEFAULT_FORM = LineFormat("{sender}: {text}")


class Model:
    """The state of the terminal client. Any thread may call every method."""

    def __init__(self, preferences: Preferences) -> None:
        #: Guards everything below. Taken before the client's and the scrollback's locks
        #: in the lock order, and held while a message or a request is sent, so that no
        #: answer is handled before its request is stored here.
        self._lock = threading.Lock()
        self._preferences = preferences
        #: All nicks in the room; and those that were active, the latest last.
        self._here: set[str] = set()
        self._heard: dict[str, None] = {}
        self._count = 0
        #: The casefolded nicks of the latest speakers, present or not.
        self._speakers: dict[str, None] = {}
        #: Maps casefolded nicks to their spelling. Replaced by each change.
        self._ignored: dict[str, str] = {}
        #: The sender of the last private message that was shown.
        self._whispered: str | None = None
        #: Why the user is away, perhaps empty; None if not away.
        self._away: str | None = None
        #: The rooms of the server, and when the list was last requested.
        self._rooms: Sequence[str] = ()
        self._rooms_asked_at = -_FRESH
        #: The messages that the server has not answered, by nonce; and those shown
        #: above the prompt, also answered ones until the answer is on the screen.
        self._open: dict[str, Message] = {}
        self._pending: dict[str, Message] = {}
        #: For each unanswered request for the rooms or the names, in the order of
        #: sending: whether the user made it. The words of the unanswered searches.
        self._rooms_asked: deque[bool] = deque()
        self._names_asked: deque[bool] = deque()
        self._searches: deque[str] = deque()
        self._form = _DEFAULT_FORM
        #: Whether a welcome has arrived; the last offset before that welcome; and the
        #: heading for the messages up to that offset, while it is not shown yet.
        self._entered = False
        self._history_end = 0
        self._heading = ""
        #: The log's epoch in the last welcome, and whether it changed during the last break.
        self._epoch = ""
        self._anew = False
        #: Whether the connection broke and no welcome has arrived since.
        self._returning = False
        #: The last round trip to the server in seconds; None if unknown. When the
        #: unanswered ping was sent, on the monotonic clock; None if there is none.
        #: Both are replaced without the lock.
        self.latency: float | None = None
        self.pinged_at: float | None = None

    # Preferences.

    @property
    def preferences(self) -> Preferences:
        """The current preferences."""
        return self._preferences

    def set_preferences(self, preferences: Preferences) -> None:
        """Replace the preferences."""
        with self._lock:
            self._preferences = preferences

    # People.

    @property
    def count(self) -> int:
        """The number of people in the room, including the user; 0 if unknown."""
        return self._count

    @property
    def away(self) -> bool:
        """Whether the user is away."""
        return self._away is not None

    @property
    def silence(self) -> float:
        """Seconds since the unanswered ping; 0 if there is none."""
        pinged_at = self.pinged_at
        return 0.0 if pinged_at is None else time.monotonic() - pinged_at

    @property
    def whispered(self) -> str | None:
        """The sender of the last private message that was shown."""
        return self._whispered

    @property
    def ignored(self) -> list[str]:
        """The ignored nicks."""
        return list(self._ignored.values())

    def knows(self, nick: str) -> bool:
        """Whether someone with this nick is in the room or has spoken."""
        folded = nick.casefold()
        with self._lock:
            return folded in self._speakers or any(name.casefold() == folded for name in self._here)

    def ignore(self, nick: str) -> None:
        """Ignore ``nick``, also after that person changes the nick."""
        with self._lock:
            self._ignored = self._ignored | {nick.casefold(): nick}

    def unignore(self, nick: str) -> bool:
        """Stop ignoring ``nick``. Returns False if it was not ignored."""
        with self._lock:
            return self._unignore_locked(nick)

    def nicks_beginning_with(self, start: str, own: str | None) -> list[str]:
        """Return the other people whose nicks begin with ``start``, the latest active first.

        Ignores case, and leaves out ignored people and the user, whose nick is ``own``.
        """
        folded = start.casefold()
        with self._lock:
            silent = self._here - self._heard.keys()
            return [
                name
                for name in [*reversed(self._heard), *sorted(silent, key=str.casefold)]
                if name.casefold().startswith(folded)
                and name != own
                and not (self._ignored and name.casefold() in self._ignored)
            ]

    # Rooms.

    def rooms(self) -> tuple[Sequence[str], bool]:
        """Return the known rooms, and whether to request a new list now.

        In that case, the list counts as requested.
        """
        now = time.monotonic()
        with self._lock:
            due = now - self._rooms_asked_at >= _FRESH
            if due:
                self._rooms_asked_at = now
            return self._rooms, due

    # Messages and requests.

    def say(
        self, send: Callable[[], str | None], message: Message, show: Callable[[], None]
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
                self._open[nonce] = self._pending[nonce] = noted

    def ask(
        self, send: Callable[[FromClient], None], request: FromClient, *, by_user: bool = True
    ) -> None:
        """Call ``send`` with ``request``, and note that its answer is due.

        Answers to requests that are not the user's are not shown. Raises what ``send``
        raises.
        """
        with self._lock:
            send(request)
            if isinstance(request, RoomsRequest):
                self._rooms_asked.append(by_user)
            elif isinstance(request, NamesRequest):
                self._names_asked.append(by_user)
            elif isinstance(request, Search):
                self._searches.append(request.words)

    @property
    def unanswered(self) -> list[Message]:
        """The messages that the server has not acknowledged, oldest first."""
        with self._lock:
            return list(self._open.values())

    @property
    def pending(self) -> list[Message]:
        """The messages to show above the prompt, oldest first."""
        with self._lock:
            return list(self._pending.values())

    def printed(self, nonce: str) -> None:
        """Note that the answer to the message with this nonce is on the screen."""
        with self._lock:
            self._pending.pop(nonce, None)

    # Events.

    def apply(self, event: Event, own: str) -> Snapshot:
        """Note ``event``, and return what is needed to show it. ``own`` is the user's nick.

        Waits while another thread is in :meth:`say`, so that a typed line is printed
        before its echo.
        """
        placed, answered, shown = None, None, True
        words: Sequence[str] = ()
        with self._lock:
            moved, away_again = self._entered, None
            match event:
                case Message():
                    placed = event
                    self._open.pop(event.nonce or "", None)
                    self._hear_of_locked(event.nick, spoke=True)
                case Ack():
                    answered = self._open.pop(event.nonce, None)
                    if answered is not None:
                        # The sender's nick is the current one.
                        placed = answered = msgspec.structs.replace(
                            answered, offset=event.offset, nick=own or answered.nick
                        )
                case Sent():
                    answered = self._open.pop(event.nonce, None)
                case PrivateMessage():
                    self._hear_of_locked(event.nick, spoke=True)
                    if event.nick != own and event.nick.casefold() not in self._ignored:
                        self._whispered = event.nick
                case Welcome():
                    away_again = self._away if self._returning else None
                    self._enter_locked(event)
                case Joined() | Left() | Renamed() | Away() | Back():
                    self._note_people_locked(event, own)
                case History():
                    if event.command == "search" and self._searches:
                        words = self._searches.popleft().split()
                case Names():
                    self._fill_locked(event.names)
                    shown = _answered(self._names_asked)
                case Rooms():
                    self._rooms = sorted(each.room for each in event.rooms)
                    shown = _answered(self._rooms_asked)
                case Error():
                    answered = self._open.pop(event.nonce or "", None)
                    shown = self._fail_locked(event.command)
                case Disconnected():
                    # No request is answered any more.
                    for asked in (self._rooms_asked, self._names_asked, self._searches):
                        asked.clear()
                    self._returning = True
                case Whois() | Gap() | Line() | Reconnected():
                    pass
                case Done() | Moderated() | Topic() | Motd() | ReadOnly() | Bans() | Activity():
                    pass
                case _:
                    assert_never(event)
            is_history = placed is not None and placed.offset <= self._history_end
            heading = self._heading if is_history else ""
            if is_history:
                self._heading = ""
            return Snapshot(
                own,
                self._preferences,
                self._form,
                self._ignored,
                shown=shown,
                answered=answered,
                is_history=is_history,
                heading=heading,
                words=words,
                moved=moved,
                anew=self._anew,
                away_again=away_again,
            )

    # Called with the lock held.

    def _enter_locked(self, welcome: Welcome) -> None:
        assert self._lock.locked()
        self._fill_locked(welcome.members)
        try:
            self._form = LineFormat(welcome.format)
        except ValueError:
            # Use the default if the server's format is invalid: messages can be shown all the same.
            self._form = _DEFAULT_FORM
        self._heading = "Missed messages" if self._returning else "Earlier messages"
        self._history_end = welcome.offset
        self._anew = self._returning and welcome.epoch != self._epoch
        self._epoch = welcome.epoch
        self._entered, self._returning = True, False

    def _fail_locked(self, command: str | None) -> bool:
        """Note that a request of this type failed. Returns whether to show that."""
        assert self._lock.locked()
        if command == "rooms":
            return _answered(self._rooms_asked)
        if command == "names":
            return _answered(self._names_asked)
        if command == "search" and self._searches:
            self._searches.popleft()
        return True

    def _note_people_locked(self, event: Joined | Left | Renamed | Away | Back, own: str) -> None:
        assert self._lock.locked()
        match event:
            case Joined():
                self._here.update((event.nick, *event.others))
                self._count = event.connected
            case Left():
                self._remove_locked((event.nick, *event.others))
                self._count = event.connected
            case Renamed():
                self._remove_locked((event.old,))
                self._here.add(event.nick)
                self._hear_of_locked(event.nick)
                if self._unignore_locked(event.old):
                    self._ignored = self._ignored | {event.nick.casefold(): event.nick}
            case Away() | Back():
                self._hear_of_locked(event.nick)
                if event.nick == own:
                    self._away = event.reason if isinstance(event, Away) else None
            case _:
                assert_never(event)

    def _fill_locked(self, names: Sequence[str]) -> None:
        """Note that exactly ``names`` are in the room."""
        assert self._lock.locked()
        self._remove_locked(self._here.difference(names))
        self._here.update(names)
        self._count = len(names)

    def _remove_locked(self, names: Iterable[str]) -> None:
        assert self._lock.locked()
        for name in names:
            self._here.discard(name)
            self._heard.pop(name, None)

    def _hear_of_locked(self, nick: str, *, spoke: bool = False) -> None:
        """Note that someone is active, and perhaps has said something."""
        assert self._lock.locked()
        if nick in self._here:
            self._heard.pop(nick, None)
            self._heard[nick] = None
        if spoke:
            folded = nick.casefold()
            self._speakers.pop(folded, None)
            self._speakers[folded] = None
            if len(self._speakers) > _MOST_SPEAKERS:
                del self._speakers[next(iter(self._speakers))]

    def _unignore_locked(self, nick: str) -> bool:
        assert self._lock.locked()
        folded = nick.casefold()
        if folded not in self._ignored:
            return False
        self._ignored = {key: each for key, each in self._ignored.items() if key != folded}
        return True


def _answered(asked: deque[bool]) -> bool:
    """Remove the oldest request, and return whether to show its answer: also if there is none."""
    return asked.popleft() if asked else True
