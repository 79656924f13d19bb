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
    Private,
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
from .people import People
from .rooms import Note, Room, RoomList
from .snapshot import Preferences, Snapshot

__all__ = ["Model"]

#: Seconds for which the server's list of rooms counts as current.
_FRESH = 5.0

#: The most messages that are kept for redactions.
_MOST_LATEST = 1000

#: The heading in front of the first message that the user has not seen.
_LAST_READ = "Last read"

#: How to show messages before the server has told its format.
_DEFAULT_FORM = LineFormat("{sender}: {text}")


class Model:
    """The state of the terminal client. Any thread may call every method."""

    def __init__(
        self,
        preferences: Preferences,
        rooms: Iterable[Room] = (),
        ignored: Iterable[str] = (),
        marked: Iterable[str] = (),
    ) -> None:
        #: The rooms that the user follows, with a lock of their own.
        self.followed = RoomList(rooms, preferences.history)
        #: Guards everything below. Taken before the client's and the scrollback's locks
        #: in the lock order, and held while a message or a request is sent, so that no
        #: answer is handled before its request is stored here.
        self._lock = threading.Lock()
        self._preferences = preferences
        self._people = People()
        self._count = 0
        #: Maps casefolded nicks to their spelling. Replaced by each change.
        self._ignored = {nick.casefold(): nick for nick in ignored}
        #: The words that are marked besides the user's nick. Replaced by each change.
        self._marked = tuple(marked)
        #: The person who gets what the user types; None: the room does.
        self._partner: str | None = None
        #: The latest messages of the room by offset, for redactions.
        self._latest: dict[int, Message] = {}
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
        #: The private messages that the server has not answered.
        self._whispers: deque[Private] = deque()
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
        with self._lock:
            return self._people.knows(nick)

    def ignore(self, nick: str) -> None:
        """Ignore ``nick``, also after that person changes the nick."""
        with self._lock:
            self._ignored = self._ignored | {nick.casefold(): nick}

    def unignore(self, nick: str) -> bool:
        """Stop ignoring ``nick``. Returns False if it was not ignored."""
        with self._lock:
            return self._unignore_locked(nick)

    @property
    def marked(self) -> Sequence[str]:
        """The words that are marked besides the user's nick."""
        return self._marked

    def mark(self, word: str) -> None:
        """Mark ``word`` in messages, and ring for it."""
        self.unmark(word)
        with self._lock:
            self._marked = (*self._marked, word)

    def unmark(self, word: str) -> bool:
        """Stop marking ``word``. Returns False if it was not marked."""
        folded = word.casefold()
        with self._lock:
            kept = tuple(each for each in self._marked if each.casefold() != folded)
            changed = kept != self._marked
            self._marked = kept
            return changed

    @property
    def partner(self) -> str | None:
        """The person who gets what the user types; None: the room does."""
        return self._partner

    def talk_with(self, nick: str | None) -> None:
        """Send what the user types to ``nick``; None: to the room."""
        with self._lock:
            self._partner = nick

    def nicks_beginning_with(self, start: str, own: str | None) -> list[str]:
        """As :meth:`People.beginning_with`, without ignored people."""
        with self._lock:
            return self._people.beginning_with(start, own, self._ignored)

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
            elif isinstance(request, Private):
                self._whispers.append(request)

    def lost_whispers(self) -> list[Private]:
        """The private messages that the server has not answered; they are forgotten."""
        with self._lock:
            lost = list(self._whispers)
            self._whispers.clear()
            return lost

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

        Waits for :meth:`say` on another thread: a typed line is printed before its echo.
        """
        placed, answered, shown, removed = None, None, True, None
        words: Sequence[str] = ()
        note = self.followed.apply(event, own, self._ignored)
        with self._lock:
            moved, away_again = self._entered, None
            match event:
                case Message():
                    placed, shown = event, not note.hidden
                    removed = self._keep_locked(event)
                    self._open.pop(event.nonce or "", None)
                    self._people.hear_of(event.nick, spoke=True)
                case Ack():
                    answered = self._open.pop(event.nonce, None)
                    if answered is not None:
                        placed = answered = _placed(answered, event.offset, own)
                case Sent():
                    answered = self._open.pop(event.nonce, None)
                case PrivateMessage():
                    self._people.hear_of(event.nick, spoke=True)
                    self._note_whisper_locked(event, own)
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
                    shown = self._fail_locked(event)
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
            heading = self._head_locked(note) if is_history and shown else ""
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
                note=note,
                rooms=self.followed.watched,
                marked=self._marked,
                removed=removed,
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
        if welcome.epoch != self._epoch:
            self._latest.clear()
        self._epoch = welcome.epoch
        self._entered, self._returning = True, False

    def _keep_locked(self, message: Message) -> Message | None:
        """Keep a message for redactions. Returns the message that it removes, if it is known."""
        assert self._lock.locked()
        self._latest[message.offset] = message
        if len(self._latest) > _MOST_LATEST:
            del self._latest[next(iter(self._latest))]
        text = message.text
        if message.kind != "redaction" or not (text.isascii() and text.isdecimal()):
            return None
        return self._latest.get(int(text[:16]))

    def _head_locked(self, note: Note) -> str:
        """Return the heading in front of a message of the history, empty for none."""
        assert self._lock.locked()
        heading, self._heading = self._heading, ""
        return _LAST_READ if note.is_first_unread else heading

    def _note_whisper_locked(self, event: PrivateMessage, own: str) -> None:
        assert self._lock.locked()
        if event.nick != own:
            if event.nick.casefold() not in self._ignored:
                self._whispered = event.nick
        elif self._whispers:
            self._whispers.popleft()

    def _fail_locked(self, error: Error) -> bool:
        """Note that a request failed. Returns whether to show that."""
        assert self._lock.locked()
        command = error.command
        if command in ("watch", "unwatch", "seen"):
            # An older server does not know these requests, which the client makes by itself.
            return error.code != "malformed"
        if command == "private" and self._whispers:
            self._whispers.popleft()
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
                self._people.add((event.nick, *event.others))
                self._count = event.connected
            case Left():
                self._people.remove((event.nick, *event.others))
                self._count = event.connected
            case Renamed():
                self._people.remove((event.old,))
                self._people.add((event.nick,))
                self._people.hear_of(event.nick)
                if self._partner == event.old:
                    self._partner = event.nick
                if self._unignore_locked(event.old):
                    self._ignored = self._ignored | {event.nick.casefold(): event.nick}
            case Away() | Back():
                self._people.hear_of(event.nick)
                if event.nick == own:
                    self._away = event.reason if isinstance(event, Away) else None
            case _:
                assert_never(event)

    def _fill_locked(self, names: Sequence[str]) -> None:
        """Note that exactly ``names`` are in the room."""
        assert self._lock.locked()
        self._people.fill(names)
        self._count = len(names)

    def _unignore_locked(self, nick: str) -> bool:
        assert self._lock.locked()
        folded = nick.casefold()
        if folded not in self._ignored:
            return False
        self._ignored = {key: each for key, each in self._ignored.items() if key != folded}
        return True


def _placed(message: Message, offset: int, own: str) -> Message:
    """Return ``message``, which is stored at ``offset``. Its sender's nick is the current one."""
    return msgspec.structs.replace(message, offset=offset, nick=own or message.nick)


def _answered(asked: deque[bool]) -> bool:
    """Remove the oldest request, and return whether to show its answer: also if there is none."""
    return asked.popleft() if asked else True
