"""What engines for a single server share: nicks, live events, entering."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from .interface import Deliver, DeliverOwn, Delivery, Engine, Entered, Position, Tail
from .presence import Candidate, ClaimsChanged, Live, LiveEvent, Person

__all__ = ["LocalEngine", "RoomClaims"]


class RoomClaims:
    """The claimed nicks of a room."""

    def __init__(self) -> None:
        #: By their casefolded form.
        self.nicks: dict[str, Candidate] = {}
        #: How often a shared nick is claimed, if more than once.
        self._counts: dict[str, int] = {}
        #: The casefolded nicks by their looks.
        self._looks: dict[str, str] = {}

    def claim(self, new: Candidate, old: str = "") -> bool:
        """Claim ``new``; ``old``, casefolded, is about to be released. False: it is taken."""
        key = new.nick.casefold()
        held = self.nicks.get(key)
        if held is not None and new.owner and held.owner == new.owner and key != old:
            self.take(new)
            return True
        if (held is not None and key != old) or self._looks.get(new.look, old) != old:
            return False
        if held is not None:
            # The same nick, in another case.
            self.release(key)
        self.take(new)
        return True

    def take(self, new: Candidate) -> None:
        """Note a claim that is granted: another one of a shared nick, or the first one."""
        key = new.nick.casefold()
        if key in self.nicks:
            self._counts[key] = self.count(key) + 1
            return
        self.nicks[key] = new
        if new.look:
            self._looks[new.look] = key

    def count(self, key: str) -> int:
        """How often the nick is claimed."""
        return self._counts.get(key, int(key in self.nicks))

    def drop(self, key: str) -> None:
        """Release the nick for all that have claimed it."""
        self._counts.pop(key, None)
        self.release(key)

    def release(self, key: str) -> bool:
        """Release the nick once. Returns whether it is free."""
        count = self._counts.pop(key, 1) - 1
        if count > 0:
            self._counts[key] = count
            return False
        held = self.nicks.pop(key, None)
        if held is not None and self._looks.get(held.look) == key:
            del self._looks[held.look]
        return True


class LocalEngine(Engine, ABC):
    """An engine whose rooms have all their members on this server."""

    def __init__(self) -> None:
        self._deliver: Deliver = _ignore
        self._live: Live = _ignore
        #: Guards ``_names``. No other lock is taken under it.
        self._names_lock = threading.Lock()
        #: The claims in each room.
        self._names: dict[str, RoomClaims] = {}

    def attach(
        self,
        deliver: Deliver,
        live: Live,
        claims_changed: ClaimsChanged | None = None,
        deliver_own: DeliverOwn | None = None,
    ) -> None:
        # Claims end with release() only, and an append delivers what it stores.
        del claims_changed, deliver_own
        self._deliver = deliver
        self._live = live

    @abstractmethod
    def _end(self, room: str) -> Position:
        """The end of the room's log. All of it is delivered."""

    def enter(
        self,
        room: str,
        nicks: Iterable[Candidate],
        after: Position | None,
        limit: int,
        *,
        with_names: bool,
    ) -> Entered:
        nick, first = self._claim_one(room, nicks)
        try:
            if after is None:
                end = self._end(room)
                messages = self.read_before(room, None, limit).messages if limit else ()
                tail = Tail(messages, True, end.offset, end)
            else:
                tail = self.read_after(room, after, limit)
        except BaseException:
            self.release(room, nick)
            raise
        return Entered(nick, self.names(room) if with_names else [], tail, first)

    def publish(self, room: str, event: LiveEvent) -> None:
        self._live(room, event)

    def claim(self, room: str, nicks: Iterable[Candidate]) -> str:
        return self._claim_one(room, nicks)[0]

    def _claim_one(self, room: str, nicks: Iterable[Candidate]) -> tuple[str, bool]:
        """Claim a nick. Returns it, and whether nobody had it."""
        with self._names_lock:
            claims = self._names.setdefault(room, RoomClaims())
            for candidate in nicks:
                if claims.claim(candidate):
                    return candidate.nick, claims.count(candidate.nick.casefold()) == 1
        raise ValueError("no nick is free")

    def rename(self, room: str, old: str, new: Candidate) -> bool:
        with self._names_lock:
            claims = self._names.setdefault(room, RoomClaims())
            old_key = old.casefold()
            alone = claims.count(old_key) <= 1
            if not claims.claim(new, old_key if alone else ""):
                return False
            if new.nick.casefold() != old_key or not alone:
                claims.release(old_key)
            return True

    def release(self, room: str, nick: str) -> bool:
        with self._names_lock:
            claims = self._names.get(room)
            if claims is None:
                return True
            free = claims.release(nick.casefold())
            if not claims.nicks:
                del self._names[room]
            return free

    def find(self, room: str, nick: str, look: str = "") -> Person | None:
        del room, nick, look  # There is no other server.
        return None

    def set_away(self, room: str, nick: str, reason: str | None) -> None:
        pass

    def away_nicks(self, room: str) -> list[str]:
        del room
        return []

    def where(self, nick: str) -> list[str]:
        key = nick.casefold()
        with self._names_lock:
            return [room for room, claims in self._names.items() if key in claims.nicks]

    def elsewhere(self, rooms: Sequence[str]) -> list[int]:
        return [0] * len(rooms)

    def names(self, room: str) -> list[str]:
        with self._names_lock:
            claims = self._names.get(room)
            return (
                [] if claims is None else [claims.nicks[key].nick for key in sorted(claims.nicks)]
            )


def _ignore(_room: str, _event: Delivery | LiveEvent) -> None:
    """The callback before :meth:`LocalEngine.attach`."""
