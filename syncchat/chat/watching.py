"""Who watches which rooms on this server, and what they are told: at most once a second.

A room that a client watches tells :class:`Watches` of its news. The I/O thread then writes to each
client the rooms with news in one write; clients with the same rooms get the same bytes.
"""

from __future__ import annotations

import re
import string
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from ..engine import Message, Position
from ..net import Deadline, encode_frame
from .directory import Directory
from .events import Activity, encode_utf8
from .people import Person

__all__ = ["Client", "Watcher", "Watches"]

#: Seconds between two events of a room: at least; and at most, if the first is not enough to
#: let this thread work for only one part of its time in so many.
_PERIOD, _LONGEST, _PARTS_OF_TIME = 1.0, 5.0, 200.0
#: Clients that the I/O thread tells at a time, before it does other work.
_CHUNK = 100

#: What no nick contains, and the parts of a word that are words of their own.
_BLANKS, _PARTS = re.compile(r"[\s:,]+"), re.compile(r"\w+")

_NOWHERE: frozenset[str] = frozenset()


class Client(Protocol):
    """What is needed of the client that watches."""

    nick: str
    person: Person | None
    watcher: Watcher | None

    @property
    def host(self) -> str:
        """The address of its machine."""

    @property
    def websocket(self) -> Connection:
        """Its connection."""


class Connection(Protocol):
    """What is needed of a connection."""

    def write_frames(self, frames: bytes, messages: int) -> bool:
        """Send encoded messages; never blocks."""


class Watcher:
    """A client that watches rooms. Guarded by the lock of :class:`Watches`."""

    __slots__ = ("client", "here", "key", "names")

    def __init__(self, client: Client, here: str) -> None:
        self.client = client
        #: Its casefolded nick.
        self.key = client.nick.casefold()
        #: The room that it is in, of which it gets no activity.
        self.here: str | None = here
        #: The rooms that it watches. Replaced as a whole, so that any thread may read it.
        self.names = _NOWHERE


class _Tick:
    """What the watchers are about to be told. Only for the I/O thread."""

    def __init__(self) -> None:
        #: Those who are still to be told.
        self.watchers: list[Watcher] = []
        #: The event of each room with news, and its frame.
        self.events: dict[str, Activity] = {}
        self.frames: dict[str, bytes] = {}
        self.mentions: Mapping[Watcher, Mapping[str, Message]] = {}
        #: The processor time that it has taken, in seconds.
        self.spent = 0.0
        #: What clients are told that watch the same rooms and are in the same one.
        self._parts: dict[tuple[frozenset[str], str | None], tuple[bytes, Sequence[str]]] = {}

    def tell(self, watcher: Watcher) -> None:
        """Write to the watcher what is new in its rooms, but the one that it is in."""
        key = watcher.names, watcher.here
        part = self._parts.get(key)
        if part is None:
            new = [name for name in self.frames if name in key[0] and name != key[1]]
            part = self._parts[key] = b"".join([self.frames[name] for name in new]), new
        joined, names = part
        if not names:
            return
        mentions = self.mentions.get(watcher)
        if mentions is not None:
            joined = b"".join([self._frame(name, mentions.get(name)) for name in names])
        watcher.client.websocket.write_frames(joined, len(names))

    def _frame(self, name: str, mention: Message | None) -> bytes:
        if mention is None:
            return self.frames[name]
        event = self.events[name]
        return _frame(Activity(event.room, event.epoch, event.offset, mention=mention))


class Watches:
    """Every method may be called from any thread."""

    def __init__(
        self,
        call_at: Callable[[Deadline, Callable[[], None]], None],
        directory: Directory,
    ) -> None:
        self._call_at = call_at
        self._directory = directory
        #: Guards the fields below up to ``_tick``, and the watchers. Only that of the timers is
        #: taken under it.
        self._lock = threading.Lock()
        self._watchers: dict[Watcher, None] = {}
        #: The sets of rooms, each with its number of watchers, which share it: that saves memory,
        #: and the time to compare sets.
        self._sets: dict[frozenset[str], tuple[frozenset[str], int]] = {}
        #: The watched rooms: the numbers of their watchers, and the ends of their logs.
        self._counts: Counter[str] = Counter()
        self._ends: dict[str, Position] = {}
        self._by_nick: dict[str, set[Watcher]] = {}
        #: The rooms that have news, and the messages that mention a watcher.
        self._news: set[str] = set()
        self._mentions: dict[Watcher, dict[str, Message]] = {}
        #: The questions to answer: the positions that clients have seen.
        self._asked: dict[Watcher, dict[str, Position | None]] = {}
        #: Before this moment, the watchers are told of no news.
        self._due = 0.0
        #: The next call of the I/O thread; None: there is none.
        self._timer: float | None = None
        #: What is half done; only for the I/O thread.
        self._tick: _Tick | None = None

    # For sessions. Those of one watcher are made one after the other.

    def begin(self, client: Client, here: str) -> Watcher:
        """Make the watcher for a client that is in the room ``here``."""
        with self._lock:
            client.watcher = watcher = Watcher(client, here)
            self._watchers[watcher] = None
            self._by_nick.setdefault(watcher.key, set()).add(watcher)
            return watcher

    def end(self, watcher: Watcher) -> None:
        """Forget a watcher that watches no room."""
        with self._lock:
            watcher.client.watcher = None
            del self._watchers[watcher]
            self._mentions.pop(watcher, None)
            self._asked.pop(watcher, None)
            self._forget_nick_locked(watcher)

    def leave(self, watcher: Watcher) -> None:
        """Note that the client is about to leave its room."""
        with self._lock:
            watcher.here = None

    def enter(self, watcher: Watcher, here: str) -> None:
        """Note that the client has entered a room, perhaps with another nick."""
        with self._lock:
            watcher.here = here
            self._note_nick_locked(watcher)

    def add(self, watcher: Watcher, room: str, end: Position, after: Position | None) -> None:
        """Tell the watcher where the room's log ends, and from now on of its news.

        Only for the combiner of the room, which is followed.
        """
        with self._lock:
            if room not in watcher.names:
                self._set_names_locked(watcher, watcher.names | {room})
                self._counts[room] += 1
            self._ends[room] = end
            self._asked.setdefault(watcher, {})[room] = after
            self._wake_locked(time.monotonic())

    def remove(self, watcher: Watcher, room: str) -> None:
        """Tell the watcher no more of a room that it watches."""
        with self._lock:
            self._set_names_locked(watcher, watcher.names - {room})
            self._counts[room] -= 1
            if not self._counts[room]:
                del self._counts[room], self._ends[room]

    def _set_names_locked(self, watcher: Watcher, names: frozenset[str]) -> None:
        assert self._lock.locked()
        if watcher.names:
            same, count = self._sets.pop(watcher.names)
            if count > 1:
                self._sets[same] = same, count - 1
        if names:
            names, count = self._sets.get(names, (names, 0))
            self._sets[names] = names, count + 1
        watcher.names = names

    # For rooms.

    def note_nick(self, client: Client) -> None:
        """Note that the client may have another nick, by which it is mentioned."""
        with self._lock:
            if client.watcher is not None:
                self._note_nick_locked(client.watcher)

    def _note_nick_locked(self, watcher: Watcher) -> None:
        assert self._lock.locked()
        self._forget_nick_locked(watcher)
        watcher.key = watcher.client.nick.casefold()
        self._by_nick.setdefault(watcher.key, set()).add(watcher)

    def _forget_nick_locked(self, watcher: Watcher) -> None:
        assert self._lock.locked()
        same = self._by_nick[watcher.key]
        same.discard(watcher)
        if not same:
            del self._by_nick[watcher.key]

    def note(self, room: str, end: Position, messages: Sequence[Message]) -> None:
        """Note that the log of a room has grown, or has begun anew. For the room's combiner."""
        # Only the room's combiner adds watchers of the room.
        if room not in self._ends:
            return
        said = [
            (message, _words(message.text))
            for message in messages
            if message.kind in ("message", "action")
        ]
        rules = self._directory.rules
        with self._lock:
            for message, words in said:
                for word in self._by_nick.keys() & words:
                    if word == message.nick.casefold():
                        continue
                    for watcher in self._by_nick[word]:
                        if room not in watcher.names or room == watcher.here:
                            continue
                        client = watcher.client
                        who = (room, client.nick, client.host, client.person)
                        if rules.ban_of(*who) is None:
                            self._mentions.setdefault(watcher, {})[room] = message
            if room in self._ends:
                self._ends[room] = end
                self._news.add(room)
            self._wake_locked(max(time.monotonic(), self._due))

    # On the I/O thread.

    def _wake_locked(self, moment: float) -> None:
        assert self._lock.locked()
        if self._timer is None or moment < self._timer:
            self._timer = moment
            self._call_at(Deadline(moment), partial(self._work, moment))

    def _work(self, moment: float) -> None:
        """Answer questions, and tell some watchers of news; never blocks."""
        with self._lock:
            if self._timer != moment:
                return  # An earlier call was set, which took over.
            self._timer = None
        begin = time.thread_time()
        tick = self._tick or self._begin()
        for watcher in tick.watchers[-_CHUNK:]:
            tick.tell(watcher)
        del tick.watchers[-_CHUNK:]
        tick.spent += time.thread_time() - begin
        self._tick = tick if tick.watchers else None
        with self._lock:
            if tick.frames and self._tick is None:
                pause = _PARTS_OF_TIME * tick.spent
                self._due = time.monotonic() + min(max(_PERIOD, pause), _LONGEST)
            if self._tick is not None or self._asked:
                self._wake_locked(time.monotonic())
            elif self._news:
                self._wake_locked(self._due)

    def _begin(self) -> _Tick:
        """Answer the questions, and take the news if they are due."""
        now = time.monotonic()
        news: set[str] = set()
        tick = _Tick()
        with self._lock:
            asked, self._asked = self._asked, {}
            if self._news and now >= self._due:
                news, self._news = self._news, set()
                tick.mentions, self._mentions = self._mentions, {}
                tick.watchers = list(self._watchers)
            wanted = news.union(*asked.values())
            ends = {room: self._ends[room] for room in wanted if room in self._ends}
        for watcher, places in asked.items():
            answers = [_answer(room, ends[room], places[room]) for room in places if room in ends]
            _write(watcher, [_frame(each) for each in answers])
        for room in news & ends.keys():
            tick.events[room] = event = Activity(room, ends[room].epoch, ends[room].offset)
            tick.frames[room] = _frame(event)
        return tick


def _answer(room: str, end: Position, after: Position | None) -> Activity:
    if after is None:
        return Activity(room, end.epoch, end.offset)
    # After offset 0, the epoch does not matter; of a new log, everything is unread.
    known = after.offset if after.epoch == end.epoch else 0
    return Activity(room, end.epoch, end.offset, max(0, end.offset - known))


def _frame(event: Activity) -> bytes:
    return encode_frame(encode_utf8(event))


def _write(watcher: Watcher, frames: Sequence[bytes]) -> None:
    if frames:
        # If the connection is closed, its session is about to end.
        watcher.client.websocket.write_frames(b"".join(frames), len(frames))


def _words(text: str) -> set[str]:
    """The words of a text that may be nicks, casefolded."""
    words: set[str] = set()
    for word in _BLANKS.split(text.casefold()):
        # Parts that are words of their own, and the word without the marks around it.
        words.update((word, word.strip(string.punctuation)), _PARTS.findall(word))
    return words
