"""The JSON dialect, ``syncchat.v1``: one JSON object per text message, tagged by ``type``.

Every event is declared here once; msgspec decodes, checks and encodes them.
Members of an object that an event does not have are ignored, so that either
side may be the newer one. Times are in seconds since 1970.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..engine import Entry, Kind

__all__ = [
    "MAX_HISTORY",
    "PLACE",
    "SUBPROTOCOL",
    "Ack",
    "Action",
    "Away",
    "AwayRequest",
    "Back",
    "BackRequest",
    "BadEvent",
    "Error",
    "ErrorCode",
    "FromClient",
    "FromServer",
    "History",
    "HistoryRequest",
    "Join",
    "Joined",
    "Left",
    "Limits",
    "Message",
    "Names",
    "NamesRequest",
    "Nick",
    "Private",
    "PrivateMessage",
    "Renamed",
    "RoomCount",
    "Rooms",
    "RoomsRequest",
    "Say",
    "Search",
    "Welcome",
    "Whois",
    "WhoisRequest",
    "decode_from_client",
    "decode_from_server",
    "encode",
    "message_of",
]

SUBPROTOCOL = "syncchat.v1"

#: A sender's random name for a message; sent again with it, it is kept once.
Nonce = Annotated[str, Meta(min_length=1, max_length=64)]
#: Messages of history that can be asked for on entering a room.
MAX_HISTORY = 1000
#: How many messages an answer may hold.
Limit = Annotated[int, Meta(ge=1, le=1000)]
#: The largest is what JavaScript counts without loss.
Offset = Annotated[int, Meta(ge=0, le=2**53)]
#: A place in a room's log: ``EPOCH:OFFSET``.
PLACE = r"^[0-9A-Za-z_-]{1,64}:[0-9]{1,15}$"
Place = Annotated[str, Meta(pattern=PLACE)]

#: Why something did not work: it is no event; the nick, or the room, cannot be
#: had; nobody is there of that name; it cannot be done now and may later; it is
#: too large.
ErrorCode = Literal["malformed", "nick", "room", "absent", "unavailable", "too_big"]


class BadEvent(Exception):
    """What the other side sent is no event; the text says why, and names the field."""

    def __init__(self, text: str, command: str | None = None) -> None:
        super().__init__(text)
        #: The type of the event that it was to be, if it had one.
        self.command = command


class _Event(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, omit_defaults=True):
    """An event; its ``type`` is the class's name in lower case unless it says another."""


# To the server.


class Say(_Event, frozen=True):
    """Say something in the room."""

    text: str
    nonce: Nonce | None = None


class Action(_Event, frozen=True):
    """Do something in the room, as ``/me`` does."""

    text: str
    nonce: Nonce | None = None


class Private(_Event, frozen=True):
    """Say something to one person in the room."""

    to: str
    text: str


class Nick(_Event, frozen=True):
    """Take another name."""

    nick: str


class Join(_Event, frozen=True):
    """Go to another room.

    ``after`` is the last place that was seen there; without it, ``history`` is how
    many of the last messages to begin with.
    """

    room: str
    after: Place | None = None
    history: Annotated[int, Meta(ge=0, le=MAX_HISTORY)] = 0


class NamesRequest(_Event, frozen=True, tag="names"):
    """Who is in the room?"""


class HistoryRequest(_Event, frozen=True, tag="history"):
    """What was said last, or before the message at ``before``?"""

    before: Offset | None = None
    limit: Limit = 50


class Search(_Event, frozen=True):
    """Which messages contain these words?"""

    words: Annotated[str, Meta(max_length=1000)]
    limit: Limit = 50


class RoomsRequest(_Event, frozen=True, tag="rooms"):
    """Which rooms are there?"""


class WhoisRequest(_Event, frozen=True, tag="whois"):
    """Who is that?"""

    nick: str


class AwayRequest(_Event, frozen=True, tag="away"):
    """Be away, for that reason if one is given, until one says to be back."""

    reason: str = ""


class BackRequest(_Event, frozen=True, tag="back"):
    """Be there again."""


FromClient = (
    Say
    | Action
    | Private
    | Nick
    | Join
    | NamesRequest
    | HistoryRequest
    | Search
    | RoomsRequest
    | WhoisRequest
    | AwayRequest
    | BackRequest
)


# From the server.


class Limits(msgspec.Struct, frozen=True):
    """What clients are held to.

    Bytes of a message to the server, characters of a nick, messages a second
    (0: any number) and how many at once before that.
    """

    message: int
    nick: int
    rate: float
    burst: int


class Welcome(_Event, frozen=True):
    """The client is in; every message behind ``offset`` is going to come.

    ``greeting`` and ``format`` are the operator's: what is to be shown first,
    and how a message is shown. ``notices``: the server tells who joins, leaves, is
    renamed, or is away. Where it does not, ask for the names.
    """

    room: str
    nick: str
    epoch: str
    offset: int
    members: list[str]
    server: str
    limits: Limits
    format: str
    greeting: str = ""
    notices: bool = True


class Message(_Event, frozen=True, gc=False):
    """A message of the room's log."""

    offset: int
    time: float
    nick: str
    text: str
    kind: Kind
    nonce: str | None = None


class Joined(_Event, frozen=True):
    """Somebody came, and ``others`` besides; ``connected`` are there now."""

    nick: str
    connected: int
    others: tuple[str, ...] = ()


class Left(_Event, frozen=True):
    """Somebody went, and ``others`` besides; ``connected`` are there now."""

    nick: str
    connected: int
    others: tuple[str, ...] = ()
    reason: str | None = None


class Renamed(_Event, frozen=True):
    """Who was called ``old`` is now called ``nick``."""

    old: str
    nick: str


class Names(_Event, frozen=True):
    """Who is in the room, and which of them are away."""

    names: list[str]
    away: list[str] = []


class PrivateMessage(_Event, frozen=True, tag="private"):
    """What somebody said to this client alone; to its sender, that it was delivered."""

    nick: str
    to: str
    text: str
    time: float


class History(_Event, frozen=True):
    """Messages of the past, the oldest first.

    On entering, ``complete`` says that nothing is missing between what the
    client saw last and these; a long past comes in several of these, each with
    what follows the one before. In an answer, that there is nothing else to be had:
    nothing older, no further match. ``command`` is what is answered, if it is that.
    """

    messages: tuple[Message, ...]
    complete: bool
    command: Literal["history", "search"] | None = None


class Ack(_Event, frozen=True):
    """The message of this nonce is kept, at ``offset``."""

    nonce: str
    offset: int


class Error(_Event, frozen=True):
    """Something did not work. ``command`` is the type of the event that asked for it."""

    code: ErrorCode
    text: str
    command: str | None = None
    nonce: str | None = None


class RoomCount(msgspec.Struct, frozen=True):
    """A room, and how many are in it."""

    room: str
    connected: int


class Rooms(_Event, frozen=True):
    """The rooms in which somebody is, or for which messages are kept."""

    rooms: tuple[RoomCount, ...]


class Whois(_Event, frozen=True):
    """Who that is: in the room since when, and when there was something of it last.

    Who is away has a reason, empty where it gave none.
    """

    nick: str
    since: float
    spoke: float | None = None
    away: str | None = None


class Away(_Event, frozen=True):
    """Somebody is away; also to who says something to it in private."""

    nick: str
    reason: str = ""


class Back(_Event, frozen=True):
    """Somebody who was away is back."""

    nick: str


FromServer = (
    Message
    | Welcome
    | Joined
    | Left
    | Renamed
    | Names
    | PrivateMessage
    | History
    | Ack
    | Error
    | Rooms
    | Whois
    | Away
    | Back
)

_encoder = msgspec.json.Encoder()
_from_client: msgspec.json.Decoder[FromClient] = msgspec.json.Decoder(FromClient)
_from_server: msgspec.json.Decoder[FromServer] = msgspec.json.Decoder(FromServer)

_TYPE = re.compile(r'"type"\s*:\s*"([a-z_]{1,32})"')


def encode(event: FromClient | FromServer) -> str:
    """The event as a text message. From any thread."""
    return _encoder.encode(event).decode()


def message_of(entry: Entry) -> Message:
    """The event that tells of a log's entry."""
    return Message(entry.offset, entry.time, entry.nick, entry.text, entry.kind, entry.nonce)


def decode_from_client(text: str) -> FromClient:
    """What a client sent. Raises :class:`BadEvent`."""
    try:
        return _from_client.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _bad(text, exc) from exc


def decode_from_server(text: str) -> FromServer:
    """What a server sent. Raises :class:`BadEvent`."""
    try:
        return _from_server.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _bad(text, exc) from exc


def _bad(text: str, exc: Exception) -> BadEvent:
    found = _TYPE.search(text[:4096])
    return BadEvent(f"This is no event of {SUBPROTOCOL}: {exc}.", found[1] if found else None)
