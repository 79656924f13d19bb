"""What operators do: who may do it, carrying it out on all servers, and saying so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec

from ..engine import Draft, Message, Record
from ..errors import EngineFailed, RoomsFull
from .events import (
    Ban,
    BanEntry,
    Bans,
    BansRequest,
    Deop,
    Done,
    Error,
    ErrorCode,
    FromOperator,
    FromServer,
    KickRequest,
    Moderated,
    Motd,
    MotdRequest,
    Mute,
    Op,
    ReadOnly,
    ReadOnlyRequest,
    Redact,
    Topic,
    TopicRequest,
    Unban,
    Unmute,
    encode_utf8,
)
from .members import Member
from .nicks import CONSOLE_NICK, is_address, key_of
from .people import Person
from .room import Room
from .rooms import RoomRegistry
from .rules import canonical, entry_record, network_of, redaction_record, room_record
from .sanitize import clean

__all__ = ["Deed", "Moderation"]

logger = logging.getLogger("syncchat.chat")

#: Characters of a reason, of a topic, and of a message of the day, at most.
_LONGEST_REASON, _LONGEST_TOPIC, _LONGEST_MOTD = 200, 400, 4000
#: Messages among which the last one of a nick is looked for.
_LOOKED_AT = 1000

#: What somebody may do: nothing, or what an operator of the room or of the server may.
_NOBODY, _ROOM, _SERVER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done, for the event log. ``client`` is the operator's address; empty: the console.

    ``action`` is the type of the request, ``target`` what or whom it is about.
    """

    by: str
    client: str
    action: str
    target: str
    room: str
    reason: str = ""
    seconds: float | None = None


class _Refused(Exception):
    """The request is not carried out."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Moderation:
    """Carries out what operators ask for. From any thread that may wait for the engine.

    ``note`` is called with each deed.
    """

    def __init__(self, rooms: RoomRegistry, note: Callable[[Deed], None]) -> None:
        self._rooms = rooms
        self._note = note

    def act(self, member: Member | None, room: str, request: FromOperator) -> FromServer:
        """Carry out a request about ``room``. None for ``member``: the console, which may do all.

        The answer is for the one who asks.
        """
        command = str(type(request).__struct_config__.tag)
        try:
            return _Act(self._rooms, self._note, member, room, command).answer(request)
        except _Refused as exc:
            return Error(exc.code, str(exc), command)
        except EngineFailed as exc:
            return Error("unavailable", f"This is not possible at the moment: {exc}.", command)
        except RoomsFull as exc:
            return Error("room", str(exc), command)


class _Act:
    """One request."""

    def __init__(
        self,
        rooms: RoomRegistry,
        note: Callable[[Deed], None],
        member: Member | None,
        room: str,
        command: str,
    ) -> None:
        self._rooms = rooms
        self._directory = rooms.directory
        self._rules = rooms.directory.rules
        self._note = note
        self._member = member
        self._room = room
        self._command = command
        self._by = CONSOLE_NICK if member is None else member.nick
        self._rank = self._rank_of_actor()

    def answer(self, request: FromOperator) -> FromServer:
        """Carry it out. Raises :class:`_Refused`."""
        self._need(self._needed(request))
        answer: FromServer
        match request:
            case KickRequest():
                answer = self._kick(clean(request.nick), _line(request.reason))
            case Ban():
                answer = self._ban(request)
            case Unban():
                answer = self._unban(clean(request.target))
            case BansRequest():
                answer = self._bans()
            case Mute():
                answer = self._mute(clean(request.nick), request.seconds)
            case Unmute():
                answer = self._unmute(clean(request.nick))
            case TopicRequest(text=None):
                answer = self._rules.topic(self._room)
            case TopicRequest():
                answer = self._set_topic(_line(request.text or "", _LONGEST_TOPIC))
            case Redact():
                answer = self._redact(request.offset, clean(request.nick))
            case MotdRequest(text=None):
                answer = Motd(self._rules.motd)
            case MotdRequest():
                answer = self._set_motd(request.text or "")
            case ReadOnlyRequest():
                answer = self._set_read_only(on=request.on)
            case Op():
                answer = self._op(clean(request.nick))
            case Deop():
                answer = self._deop(clean(request.nick))
            case _:
                assert_never(request)
        return answer

    # Who may do it.

    @staticmethod
    def _needed(request: FromOperator) -> int:
        match request:
            case TopicRequest(text=None) | MotdRequest(text=None):
                return _NOBODY
            case MotdRequest():
                return _SERVER
            case _:
                return _ROOM

    def _rank_of_actor(self) -> int:
        if self._member is None:
            return _SERVER
        person = self._member.person
        if person is not None and person.operator:
            return _SERVER
        return _ROOM if self._rules.is_operator(person, self._room) else _NOBODY

    def _need(self, rank: int) -> None:
        if self._rank < rank:
            who = "operators of this server" if rank == _SERVER else "operators of this room"
            raise _Refused("forbidden", f"Only {who} may do that.")

    def _person(self, nick: str) -> Person | None:
        """The person that has this nick, or whose name it is."""
        member = self._rooms.find_here(self._room, nick)
        return self._directory.people.named(nick) if member is None else member.person

    def _spare_operators(self, nick: str) -> None:
        person = self._person(nick)
        if person is not None and person.operator:
            raise _Refused("forbidden", f"{nick} is an operator of this server.")

    def _present(self, nick: str) -> str | None:
        """The nick as somebody in the room has it, on any server; None: nobody has."""
        found = self._rooms.find(self._room, nick)
        return None if found is None else found.nick

    # What is done to people.

    def _kick(self, nick: str, reason: str) -> Done:
        spares = self._rank < _SERVER
        if spares:
            self._spare_operators(nick)
        present = self._present(nick)
        if present is None or not self._rooms.kick(
            self._room, present, reason, spares_operators=spares
        ):
            raise self._absent(nick)
        self._announce(Moderated("kick", present, self._by, reason))
        return self._done(f"{present} was removed.", present, reason)

    def _ban(self, request: Ban) -> Done:
        target, reason = clean(request.target).strip(), _line(request.reason)
        member = self._rooms.find_here(self._room, target)
        if member is not None and member.person is not None:
            # It may take another nick, but its name is its own.
            target = member.person.name
        elif is_address(target) and network_of(target) is None:
            # The nick of a guest that has chosen none: it has another one next time.
            host = target.rpartition(":")[0].strip("[]")
            if network_of(host) is None:
                raise _Refused("malformed", f"{target} is no nick, address or network.")
            target = host
        network = network_of(target)
        if not target or any(char.isspace() for char in target):
            raise _Refused("malformed", "A ban needs a nick, an address or a network.")
        if network is None:
            self._spare_operators(target)
        else:
            target = str(network) if network.num_addresses > 1 else str(network.network_address)
        entry = self._entry(target, request.seconds, reason)
        self._spare_oneself(entry)
        self._directory.write(*self._ended("ban"), entry_record("ban", entry))
        self._announce(Moderated("ban", target, self._by, reason, request.seconds))
        where = "everywhere" if entry.room is None else f"in {entry.room}"
        return self._done(f"{target} is banned {where}.", target, reason, request.seconds)

    def _spare_oneself(self, entry: BanEntry) -> None:
        member = self._member
        if member is not None:
            record = entry_record("ban", entry)
            assert record.value is not None
            alone = type(self._rules)({"ban": {record.key: record.value}})
            if alone.ban_of(self._room, member.nick, member.host, member.person) is not None:
                raise _Refused("forbidden", "You would ban yourself.")

    def _entry(self, target: str, seconds: float | None, reason: str = "") -> BanEntry:
        now = time.time()
        until = None if seconds is None else now + seconds
        everywhere = self._command == "ban" and self._rank == _SERVER
        return BanEntry(target, self._by, now, until, reason, None if everywhere else self._room)

    def _unban(self, target: str) -> Done:
        wanted = canonical(target)
        found = [each for each in self._holding() if canonical(each.target) == wanted]
        own = [each for each in found if self._rank == _SERVER or each.room is not None]
        if found and not own:
            text = f"The ban of {target} holds everywhere: only operators of this server lift it."
            raise _Refused("forbidden", text)
        if not own:
            raise _Refused("absent", f"There is no ban of {target} here.")
        lifted = [entry_record("ban", each, deleted=True) for each in own]
        self._directory.write(*self._ended("ban"), *lifted)
        return self._done(f"{target} is no longer banned.", target)

    def _bans(self) -> Bans:
        return Bans(tuple(sorted(self._holding(), key=lambda each: each.since)))

    def _holding(self) -> list[BanEntry]:
        """The bans that hold in the room."""
        now = time.time()
        return [
            each
            for each in self._rules.bans
            if each.room in (None, self._room) and (each.until is None or each.until > now)
        ]

    def _ended(self, kind: str) -> list[Record]:
        """Records to delete: nothing else does that."""
        entries = self._rules.bans if kind == "ban" else self._rules.mutes
        now = time.time()
        return [
            entry_record(kind, each, deleted=True)
            for each in entries
            if each.until is not None and each.until <= now
        ]

    def _mute(self, nick: str, seconds: float | None) -> Done:
        self._spare_operators(nick)
        person = self._person(nick)
        present = self._present(nick)
        target = present if person is None else person.name
        if target is None:
            raise self._absent(nick)
        entry = self._entry(target, seconds)
        self._directory.write(*self._ended("mute"), entry_record("mute", entry))
        shown = present or target
        self._announce(Moderated("mute", shown, self._by, seconds=seconds))
        return self._done(f"{shown} may not speak in {self._room}.", shown, "", seconds)

    def _unmute(self, nick: str) -> Done:
        person = self._person(nick)
        wanted = {key_of(nick), "" if person is None else key_of(person.name)}
        found = [
            each
            for each in self._rules.mutes
            if each.room == self._room and canonical(each.target) in wanted
        ]
        if not found:
            raise _Refused("absent", f"{nick} is not muted here.")
        self._directory.write(*(entry_record("mute", each, deleted=True) for each in found))
        self._announce(Moderated("unmute", nick, self._by))
        return self._done(f"{nick} may speak again.", nick)

    def _op(self, nick: str) -> Done:
        person = self._person(nick)
        if person is None:
            text = (
                f"{nick} is not the name of a person with a token: anybody could take it."
                f" syncchat-server people add {nick} reserves it."
            )
            raise _Refused("absent", text)
        name = person.name
        value = msgspec.json.encode({"by": self._by, "since": time.time()})
        self._directory.write(room_record("op", self._room, value, key=key_of(name)))
        self._announce(Moderated("op", name, self._by))
        return self._done(f"{name} is an operator of {self._room}.", name)

    def _deop(self, nick: str) -> Done:
        person = self._person(nick)
        name = nick if person is None else person.name
        key = key_of(name)
        if not self._rules.is_room_operator(name, self._room):
            raise _Refused("absent", f"{name} is not an operator of {self._room} alone.")
        self._directory.write(room_record("op", self._room, None, key=key))
        self._announce(Moderated("deop", name, self._by))
        return self._done(f"{name} is no operator of {self._room} any more.", name)

    # What is done to the room.

    def _set_topic(self, text: str) -> Done:
        topic = Topic(text, self._by, time.time())
        value = encode_utf8(topic) if text else None
        self._directory.write(room_record("topic", self._room, value))
        self._announce(topic)
        return self._done("The topic is set." if text else "The topic is removed.", text)

    def _set_motd(self, text: str) -> Done:
        text = clean(text).strip()
        if len(text) > _LONGEST_MOTD:
            raise _Refused("too_big", f"It must have at most {_LONGEST_MOTD} characters.")
        self._directory.write(room_record("motd", "", text.encode() or None))
        done = "set" if text else "removed"
        return self._done(f"The message of the day is {done}.", text)

    def _set_read_only(self, *, on: bool) -> Done:
        if not on and self._rooms.permits.is_always_read_only(self._room):
            raise _Refused("forbidden", f"The server's settings make {self._room} read-only.")
        value = self._by.encode() if on else None
        self._directory.write(room_record("read_only", self._room, value))
        self._announce(ReadOnly(on, self._by))
        state = "read-only" if on else "no longer read-only"
        return self._done(f"{self._room} is {state}.", "on" if on else "off")

    def _redact(self, offset: int | None, nick: str) -> Done:
        with self._rooms.used(self._room) as room:
            epoch = room.position().epoch
            message = self._last_of(room, epoch, nick) if offset is None else self._at(offset)
            if message is None or message.kind not in ("message", "action"):
                which = f"{nick} has said nothing lately" if offset is None else "It does not exist"
                raise _Refused("absent", f"There is no such message: {which}.")
            earlier = [
                redaction_record(self._room, *each, deleted=True)
                for each in self._rules.redacted(self._room)
                if each[0] != epoch
            ]
            hidden = redaction_record(self._room, epoch, message.offset)
            self._directory.write(*earlier, hidden)
            room.publish(Draft(self._by, str(message.offset), "redaction"))
        return self._done(f"A message of {message.nick} is removed.", f"{message.offset}")

    def _at(self, offset: int) -> Message | None:
        messages = self._rooms.engine.read_before(self._room, offset + 1, 1).messages
        return messages[0] if messages and messages[0].offset == offset else None

    def _last_of(self, room: Room, epoch: str, nick: str) -> Message | None:
        """The last message of a nick that is not hidden."""
        room.drain()
        key = key_of(nick)
        messages: Sequence[Message] = self._rooms.last(self._room, _LOOKED_AT)
        for message in reversed(self._rules.hide(self._room, epoch, messages)):
            if key_of(message.nick) == key and message.kind in ("message", "action"):
                return message
        return None

    # Saying so.

    def _announce(self, event: Moderated | Topic | ReadOnly) -> None:
        """Tell the room, on all servers. What is decided holds even if that fails."""
        try:
            self._rooms.engine.publish(self._room, event)
        except EngineFailed as exc:
            logger.warning("room %r: a decision could not be announced: %s", self._room, exc)

    def _done(self, text: str, target: str, reason: str = "", seconds: float | None = None) -> Done:
        client = "" if self._member is None else self._member.address
        deed = Deed(self._by, client, self._command, target, self._room, reason, seconds)
        self._note(deed)
        return Done(self._command, text)

    def _absent(self, nick: str) -> _Refused:
        return _Refused("absent", f"{nick} is not in {self._room}.")


def _line(text: str, longest: int = _LONGEST_REASON) -> str:
    """``text`` in one line, since it is part of a notice. Raises :class:`_Refused`."""
    line = " ".join(clean(text).split())
    if len(line) > longest:
        raise _Refused("too_big", f"It must have at most {longest} characters.")
    return line
