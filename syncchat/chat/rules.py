"""What operators have decided: bans, mutes, topics, rooms that are read-only."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ..engine import Message, Record
from .events import BanEntry, Error, Topic
from .nicks import is_address, key_of, look_of
from .people import Person
from .stored import RecordReader

__all__ = [
    "KINDS",
    "Network",
    "Rules",
    "banned",
    "canonical",
    "entry_record",
    "network_around",
    "network_of",
    "redaction_record",
    "room_record",
]

#: The kinds of the records.
KINDS = ("ban", "mute", "topic", "motd", "read_only", "op", "redacted")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The length of the prefix that an IPv6 client can usually choose addresses from.
_OWN_PREFIX = 64
_MAPPED_PREFIX = 96


def network_of(text: str) -> Network | None:
    """The network, or the address, that ``text`` names; None: it names none.

    An IPv4-mapped IPv6 address is the IPv4 address that it stands for.
    """
    try:
        network = ipaddress.ip_network(text.partition("%")[0], strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


def network_around(host: str) -> Network | None:
    """The network that is banned with a guest: its address, for IPv6 with the addresses beside it.

    None: the host is no address, or a loopback address, which everybody may have behind a proxy.
    """
    network = network_of(host)
    if network is None or network.is_loopback:
        return None
    return network.supernet(new_prefix=_OWN_PREFIX) if network.version == 6 else network


def canonical(target: str) -> str:
    """The form of a ban's target that is the same in whatever way it is written."""
    network = network_of(target)
    return key_of(target) if network is None else str(network)


def entry_record(kind: str, entry: BanEntry, *, deleted: bool = False) -> Record:
    """The record of a ban or a mute."""
    value = None if deleted else msgspec.json.encode(entry)
    return Record(kind, f"{entry.room or ''}\0{canonical(entry.target)}", value)


def redaction_record(room: str, epoch: str, offset: int, *, deleted: bool = False) -> Record:
    """The record that hides a message. One for each: servers write them at the same time."""
    return Record("redacted", f"{room}\0{epoch}\0{offset}", None if deleted else b"")


def room_record(kind: str, room: str, value: bytes | None, *, key: str = "") -> Record:
    """A record of a room, or with ``key`` one of several: an operator of the room."""
    return Record(kind, f"{room}\0{key}" if key else room, value)


def _entry(_: str, value: bytes) -> BanEntry:
    entry = msgspec.json.decode(value, type=BanEntry)
    # The moment may be none that can be told.
    _until(entry)
    return entry


def _topic(_: str, value: bytes) -> Topic:
    return msgspec.json.decode(value, type=Topic)


def _motd(_: str, value: bytes) -> str:
    return value.decode()


def _hidden(key: str, _: bytes) -> tuple[str, str, int]:
    room, epoch, offset = key.split("\0")
    return room, epoch, int(offset)


class _Entries:
    """Bans or mutes, and whom they hold for."""

    def __init__(self, entries: Iterable[BanEntry]) -> None:
        self.all = tuple(entries)
        self._by_key: dict[tuple[str | None, str], BanEntry] = {}
        self._by_look: dict[tuple[str | None, str], BanEntry] = {}
        #: By the room and the network; and whether it holds for guests only.
        self._by_network: dict[tuple[str | None, Network], tuple[BanEntry, bool]] = {}
        for entry in self.all:
            network = network_of(entry.target)
            if network is None:
                self._by_key[entry.room, key_of(entry.target)] = entry
                self._by_look[entry.room, look_of(entry.target)] = entry
            else:
                self._by_network[entry.room, network] = entry, False
            for each in entry.networks:
                around = network_of(each)
                if around is not None:
                    self._by_network.setdefault((entry.room, around), (entry, True))
        self._prefixes = {(net.version, net.prefixlen) for _, net in self._by_network}

    def find(self, room: str, nick: str, host: str, person: Person | None) -> BanEntry | None:
        """The entry that holds in the room for a client. None for a server operator."""
        if not self.all or (person is not None and person.operator):
            return None
        now = time.time()
        for entry in self._matching(room, nick, host, person):
            if entry.until is None or entry.until > now:
                return entry
        return None

    def _matching(
        self, room: str, nick: str, host: str, person: Person | None
    ) -> Iterator[BanEntry]:
        names = (nick,) if person is None else (nick, person.name)
        networks = list(self._networks(host))
        for scope in (None, room):
            for name in names:
                entry = self._by_key.get((scope, key_of(name)))
                if entry is None and self._by_look and not is_address(name):
                    entry = self._by_look.get((scope, look_of(name)))
                if entry is not None:
                    yield entry
            for network in networks:
                found = self._by_network.get((scope, network))
                if found is not None and (person is None or not found[1]):
                    yield found[0]

    def _networks(self, host: str) -> Iterator[Network]:
        address = network_of(host) if self._prefixes else None
        if address is not None:
            for version, prefix in self._prefixes:
                if version == address.version:
                    yield address.supernet(new_prefix=prefix)


class Rules:
    """All decisions, as they are in the records. Immutable; usable from any thread.

    Damaged records have no effect.
    """

    def __init__(self, records: Mapping[str, Mapping[str, bytes]]) -> None:
        reader = RecordReader()
        self._bans, self._mutes = (
            _Entries(reader.read(kind, records.get(kind, {}), _entry).values())
            for kind in ("ban", "mute")
        )
        self._topics = reader.read("topic", records.get("topic", {}), _topic)
        #: The message of the day; empty for none.
        self.motd = reader.read("motd", records.get("motd", {}), _motd).get("", "")
        self._read_only = frozenset(records.get("read_only", {}))
        self._operators = frozenset(records.get("op", {}))
        self._redacted: dict[tuple[str, str], set[int]] = {}
        hidden = reader.read("redacted", records.get("redacted", {}), _hidden)
        for room, epoch, offset in hidden.values():
            self._redacted.setdefault((room, epoch), set()).add(offset)
        #: Kind and key of the records that cannot be read.
        self.damaged = frozenset(reader.damaged)

    @property
    def bans(self) -> tuple[BanEntry, ...]:
        """All bans, with those that have ended."""
        return self._bans.all

    @property
    def mutes(self) -> tuple[BanEntry, ...]:
        """All mutes, with those that have ended."""
        return self._mutes.all

    def ban_of(self, room: str, nick: str, host: str, person: Person | None) -> BanEntry | None:
        """The ban that keeps a client out of the room; None: it may enter."""
        return self._bans.find(room, nick, host, person)

    def mute_of(self, room: str, nick: str, host: str, person: Person | None) -> BanEntry | None:
        """The mute that holds for a client in the room; None: there is none."""
        return self._mutes.find(room, nick, host, person)

    def is_operator(self, person: Person | None, room: str) -> bool:
        """Whether a person may do what operators of this room may."""
        if person is None:
            return False
        return person.operator or self.is_room_operator(person.name, room)

    def is_room_operator(self, name: str, room: str) -> bool:
        """Whether the person of this name has been made an operator of the room."""
        return f"{room}\0{key_of(name)}" in self._operators

    def silence(self, room: str, nick: str, host: str, person: Person | None) -> Error | None:
        """Why a client may not speak in the room; None: it may."""
        if not self._mutes.all and not self._read_only:
            return None
        mute = self.mute_of(room, nick, host, person)
        if mute is not None:
            return Error("muted", f"You are muted in {room}{_until(mute)}.")
        if self.is_closed_to(room, person):
            return Error("refused", f"{room} is read-only: you cannot speak here.")
        return None

    def is_closed_to(self, room: str, person: Person | None) -> bool:
        """Whether the room is read-only for this client."""
        return room in self._read_only and not self.is_operator(person, room)

    def topic(self, room: str) -> Topic:
        """The room's topic, empty for none."""
        return self._topics.get(room, _NO_TOPIC)

    def is_redacted(self, room: str, epoch: str, offset: int) -> bool:
        """Whether the message of the room's log of this epoch is hidden."""
        return offset in self._redacted.get((room, epoch), ())

    def redacted(self, room: str) -> list[tuple[str, int]]:
        """Epoch and offset of all messages of a room that are hidden."""
        return [
            (epoch, offset)
            for (name, epoch), offsets in self._redacted.items()
            if name == room
            for offset in offsets
        ]

    def hide(self, room: str, epoch: str, messages: Sequence[Message]) -> tuple[Message, ...]:
        """``messages`` as readers may see them: hidden ones are ``redacted``, and empty."""
        offsets = self._redacted.get((room, epoch)) if self._redacted else None
        if not offsets:
            return tuple(messages)
        return tuple(
            msgspec.structs.replace(each, kind="redacted", text="")
            if each.offset in offsets
            else each
            for each in messages
        )


_NO_TOPIC = Topic("")


def banned(ban: BanEntry) -> Error:
    """What a client is told that is banned."""
    where = "this chat" if ban.room is None else ban.room
    reason = f": {ban.reason}" if ban.reason else "."
    return Error("banned", f"You are banned from {where}{_until(ban)}{reason}")


def _until(entry: BanEntry) -> str:
    if entry.until is None:
        return ""
    return time.strftime(" until %Y-%m-%d %H:%M UTC", time.gmtime(entry.until))
