"""The JSON dialect, ``syncchat.v1``: one JSON object per text message, tagged by ``type``.

Every event is declared here once; msgspec decodes, checks and encodes them.
Unknown members of an object are ignored, so that either side may be of a newer
version. Times are in seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..engine import LiveCodec, Message
from ..errors import BadEvent

__all__ = [
    "LIVE_CODEC",
    "MAX_HISTORY",
    "MAX_REASON",
    "MAX_WATCHED",
    "PLACE",
    "SUBPROTOCOL",
    "VERSION_HEADER",
    "Ack",
    "Action",
    "Activity",
    "Away",
    "AwayRequest",
    "Back",
    "BackRequest",
    "BadEvent",
    "Ban",
    "BanEntry",
    "Bans",
    "BansRequest",
    "ClientLimits",
    "Deop",
    "Done",
    "Error",
    "ErrorCode",
    "Forwarded",
    "FromClient",
    "FromOperator",
    "FromServer",
    "History",
    "HistoryRequest",
    "Join",
    "Joined",
    "Kick",
    "KickRequest",
    "Leave",
    "Left",
    "Message",
    "Moderated",
    "Motd",
    "MotdRequest",
    "Mute",
    "Names",
    "NamesRequest",
    "Nick",
    "Op",
    "Private",
    "PrivateMessage",
    "ReadOnly",
    "ReadOnlyRequest",
    "Redact",
    "Renamed",
    "RoomCount",
    "Rooms",
    "RoomsRequest",
    "Say",
    "Search",
    "Seen",
    "Topic",
    "TopicRequest",
    "Unban",
    "Unmute",
    "Unwatch",
    "Watch",
    "WatchedRoom",
    "Welcome",
    "Whois",
    "WhoisRequest",
    "decode_from_client",
    "decode_from_server",
    "encode",
    "encode_utf8",
]

SUBPROTOCOL = "syncchat.v1"

#: The header with its version by which a server of this package makes itself known in
#: the opening handshake. Other servers may agree to every subprotocol that is offered.
VERSION_HEADER = "Syncchat-Version"

#: A random id that the sender gives a message. A message sent twice with it is stored once.
Nonce = Annotated[str, Meta(min_length=1, max_length=64)]
#: The most messages of history that a client can ask for when it enters a room.
MAX_HISTORY = 1000
#: The most messages that an answer may hold.
Limit = Annotated[int, Meta(ge=1, le=1000)]
#: Up to the largest integer that JavaScript represents exactly.
Offset = Annotated[int, Meta(ge=0, le=2**53)]
#: A position in a room's log: ``EPOCH:OFFSET``.
PLACE = r"^[0-9A-Za-z_-]{1,64}:[0-9]{1,15}$"
Place = Annotated[str, Meta(pattern=PLACE)]

#: Why a request failed. ``malformed``: it is not a valid event. ``nick``: the nick is invalid.
#: ``nick_taken``: another member of the room has it. ``room``: the room is invalid or not
#: available. ``absent``: no member has that nick. ``unavailable``: it fails now and may work
#: later. ``too_big``: it is too large. ``refused``: the server's program does not accept it.
#: ``kicked``: the client is removed. ``banned``: it may not enter. ``muted``: it may not speak.
#: ``forbidden``: only operators may do that.
ErrorCode = Literal[
    "malformed",
    "nick",
    "nick_taken",
    "room",
    "absent",
    "unavailable",
    "too_big",
    "refused",
    "kicked",
    "banned",
    "muted",
    "forbidden",
]

#: Seconds that something is to last.
Seconds = Annotated[float, Meta(gt=0, le=10 * 365 * 86400)]
#: The most characters of a reason, a topic, and a message of the day.
MAX_REASON = 200
Reason = Annotated[str, Meta(max_length=MAX_REASON)]
TopicText = Annotated[str, Meta(max_length=400)]
MotdText = Annotated[str, Meta(max_length=4000)]
#: The most rooms that a client can watch.
MAX_WATCHED = 200


class _Event(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower, omit_defaults=True):
    """An event; its ``type`` is the class name in lower case, unless the class sets ``tag``."""


# To the server.


class Say(_Event, frozen=True):
    """Send a message to the room."""

    text: str
    nonce: Nonce | None = None


class Action(_Event, frozen=True):
    """Send an action to the room, as ``/me`` does."""

    text: str
    nonce: Nonce | None = None


class Private(_Event, frozen=True):
    """Send a private message to the member called ``to``."""

    to: str
    text: str


class Nick(_Event, frozen=True):
    """Take another nick."""

    nick: str


class Join(_Event, frozen=True):
    """Go to another room.

    ``after`` is the last position that the client has seen there. Without it,
    ``history`` is how many of the last messages the client gets first.
    """

    room: str
    after: Place | None = None
    history: Annotated[int, Meta(ge=0, le=MAX_HISTORY)] = 0


class NamesRequest(_Event, frozen=True, tag="names"):
    """Ask who is in the room."""


class HistoryRequest(_Event, frozen=True, tag="history"):
    """Ask for the last messages, or for those before the offset ``before``."""

    before: Offset | None = None
    limit: Limit = 50


class Search(_Event, frozen=True):
    """Ask for the messages that contain all these words."""

    words: Annotated[str, Meta(max_length=1000)]
    limit: Limit = 50


class RoomsRequest(_Event, frozen=True, tag="rooms"):
    """Ask which rooms there are."""


class WhoisRequest(_Event, frozen=True, tag="whois"):
    """Ask about the member of this nick."""

    nick: str


class AwayRequest(_Event, frozen=True, tag="away"):
    """Mark yourself as away. An empty ``reason`` means that you give none."""

    reason: str = ""


class BackRequest(_Event, frozen=True, tag="back"):
    """Be back from ``away``."""


class Leave(_Event, frozen=True, tag="quit"):
    """Leave the chat. The others are told ``reason``, if there is one."""

    reason: Reason = ""


# From people with a token of their own, and from clients that watch other rooms.


class WatchedRoom(msgspec.Struct, frozen=True, omit_defaults=True):
    """A room to watch, and the last position that the client has seen there."""

    room: str
    after: Place | None = None


class Watch(_Event, frozen=True):
    """Watch rooms besides the one that the client is in. Those watched already stay so."""

    rooms: Annotated[tuple[WatchedRoom, ...], Meta(max_length=MAX_WATCHED)]


class Unwatch(_Event, frozen=True):
    """Watch these rooms no more."""

    rooms: tuple[str, ...]


class Seen(_Event, frozen=True):
    """The person has seen the room up to ``place``. The server keeps it for all its devices."""

    room: str
    place: Place


# From operators.


class KickRequest(_Event, frozen=True, tag="kick"):
    """Remove a member from the room. Its client does not come back by itself."""

    nick: str
    reason: Reason = ""


class Ban(_Event, frozen=True):
    """Keep somebody out: a nick, an address, or a network such as ``2001:db8::/48``.

    ``seconds``: for how long; None: until it is lifted.
    """

    target: str
    seconds: Seconds | None = None
    reason: Reason = ""


class Unban(_Event, frozen=True):
    """Lift a ban. ``target`` is that of the ban."""

    target: str


class BansRequest(_Event, frozen=True, tag="bans"):
    """Ask for the bans that hold here."""


class Mute(_Event, frozen=True):
    """Let somebody read but not speak in the room, for ``seconds`` or until it is lifted."""

    nick: str
    seconds: Seconds | None = None


class Unmute(_Event, frozen=True):
    """Let somebody speak again."""

    nick: str


class TopicRequest(_Event, frozen=True, tag="topic"):
    """Set the room's topic; empty for none. Without ``text``, ask for it, as anybody may."""

    text: TopicText | None = None


class Redact(_Event, frozen=True):
    """Hide the text of the room's message with this offset, or of the last one of ``nick``."""

    offset: Offset | None = None
    nick: str = ""


class MotdRequest(_Event, frozen=True, tag="motd"):
    """Set the message of the day; empty for none. Without ``text``, ask for it."""

    text: MotdText | None = None


class ReadOnlyRequest(_Event, frozen=True, tag="read_only"):
    """Let only operators speak in the room, or everybody again."""

    on: bool


class Op(_Event, frozen=True):
    """Make somebody an operator of the room."""

    nick: str


class Deop(_Event, frozen=True):
    """Make an operator of the room an ordinary member again."""

    nick: str


FromOperator = (
    KickRequest
    | Ban
    | Unban
    | BansRequest
    | Mute
    | Unmute
    | TopicRequest
    | Redact
    | MotdRequest
    | ReadOnlyRequest
    | Op
    | Deop
)

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
    | Leave
    | Watch
    | Unwatch
    | Seen
    | FromOperator
)


# From the server.


class ClientLimits(msgspec.Struct, frozen=True):
    """The server's limits for a client.

    ``message``: bytes of a message to the server. ``nick``: characters of a nick.
    ``rate``: messages per second (0: any number), after ``burst`` messages at once.
    """

    message: int
    nick: int
    rate: float
    burst: int


class Welcome(_Event, frozen=True):
    """The client is in the room, and gets every message after ``offset``.

    The operator sets ``greeting``, the text to show first, and ``format``, the way to
    show a message. ``notices``: the server tells who joins, leaves, is renamed, or is
    away. If it does not, ask for the names. ``motd``: the message of the day. ``read_only``: the
    client cannot speak here. ``person``: the reserved name of the person whose token the client
    has shown. ``operator``: it may do what operators of this room may. ``places``: for a person,
    the last position seen in each room.
    """

    room: str
    nick: str
    epoch: str
    offset: int
    members: list[str]
    server: str
    limits: ClientLimits
    format: str
    greeting: str = ""
    notices: bool = True
    topic: str = ""
    motd: str = ""
    read_only: bool = False
    person: str | None = None
    operator: bool = False
    places: dict[str, str] = {}


class Joined(_Event, frozen=True):
    """The members ``nick`` and ``others`` joined; ``connected`` members are there now."""

    nick: str
    connected: int
    others: tuple[str, ...] = ()


class Left(_Event, frozen=True):
    """The members ``nick`` and ``others`` left; ``connected`` members are there now.

    ``reason``: why ``nick`` left, if it left alone: what it has said, or what ended its connection.
    """

    nick: str
    connected: int
    others: tuple[str, ...] = ()
    reason: str | None = None


class Renamed(_Event, frozen=True):
    """The member called ``old`` is now called ``nick``."""

    old: str
    nick: str


class Names(_Event, frozen=True):
    """The nicks in the room, and those of them that are away."""

    names: list[str]
    away: list[str] = []


class PrivateMessage(_Event, frozen=True, tag="private"):
    """A private message from ``nick`` to ``to``. Its sender gets it too, as the receipt."""

    nick: str
    to: str
    text: str
    time: float


class History(_Event, frozen=True):
    """Messages of the history, the oldest first.

    When a client enters, ``command`` is None, and ``complete`` says that nothing is
    missing between the last message that the client has seen and these; a long
    history comes in several such events, in order. In an answer, ``command`` is
    the request, and ``complete`` says that there is nothing else: no older message,
    or no further match.
    """

    messages: tuple[Message, ...]
    complete: bool
    command: Literal["history", "search"] | None = None


class Ack(_Event, frozen=True):
    """The message with this nonce is stored, at ``offset`` in the log of this epoch."""

    nonce: str
    offset: int
    epoch: str


class Error(_Event, frozen=True):
    """A request failed. ``command`` and ``nonce`` are its type and nonce, if they are known.

    ``code`` is an :data:`ErrorCode`, or another text from a newer server.
    """

    code: str
    text: str
    command: str | None = None
    nonce: str | None = None


class RoomCount(msgspec.Struct, frozen=True):
    """A room and its number of members."""

    room: str
    connected: int


class Rooms(_Event, frozen=True):
    """The rooms that have members, or for which messages are kept."""

    rooms: tuple[RoomCount, ...]


class Whois(_Event, frozen=True):
    """Details about a member: when it entered the room and when it last spoke.

    ``spoke`` is None if it has not spoken. ``away`` is its reason to be away, empty for none;
    None: it is not away. ``rooms`` are all rooms in which a member has the nick, ``person``
    whether the nick is that of a person with a token, and ``operator`` whether it is an operator
    of this room.
    """

    nick: str
    since: float
    spoke: float | None = None
    away: str | None = None
    rooms: tuple[str, ...] = ()
    person: bool = False
    operator: bool = False


class Away(_Event, frozen=True):
    """A member is away. Also sent to a member that sends it a private message."""

    nick: str
    reason: str = ""


class Back(_Event, frozen=True):
    """A member that was away is back."""

    nick: str


class Done(_Event, frozen=True):
    """A request was carried out. ``command`` is its type; ``text`` says so to a person."""

    command: str
    text: str


class Moderated(_Event, frozen=True):
    """An operator has done something to a member: ``action`` is the request's type."""

    action: Literal["kick", "ban", "mute", "unmute", "op", "deop"]
    nick: str
    by: str
    reason: str = ""
    seconds: float | None = None


class Topic(_Event, frozen=True):
    """The room's topic, empty for none. ``by`` has set it, at ``time``."""

    text: str
    by: str = ""
    time: float = 0.0


class Motd(_Event, frozen=True):
    """The message of the day, empty for none."""

    text: str


class ReadOnly(_Event, frozen=True, tag="read_only"):
    """An operator has made the room read-only, or has ended that."""

    on: bool
    by: str


class BanEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ban. ``room`` is None if it holds in all rooms; ``until`` is None if it does not end.

    ``networks``: the addresses of the guest that is banned, from which no guest may enter.
    """

    target: str
    by: str
    since: float
    until: float | None = None
    reason: str = ""
    room: str | None = None
    networks: tuple[str, ...] = ()


class Bans(_Event, frozen=True):
    """The bans that hold here."""

    bans: tuple[BanEntry, ...]


class Activity(_Event, frozen=True):
    """Something was said in a watched room, whose log now ends at ``offset``.

    Also the answer to ``watch``, for each room. ``mention``: the last message since the event
    before that contains the client's nick. ``unread``: how many messages there are after the
    position that the client gave with ``watch``; only in the answer.
    """

    room: str
    epoch: str
    offset: int
    unread: int | None = None
    mention: Message | None = None


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
    | Done
    | Moderated
    | Topic
    | Motd
    | ReadOnly
    | Bans
    | Activity
)

_encoder = msgspec.json.Encoder()
_from_client: msgspec.json.Decoder[FromClient] = msgspec.json.Decoder(FromClient)
_from_server: msgspec.json.Decoder[FromServer] = msgspec.json.Decoder(FromServer)

_TYPE = re.compile(r'"type"\s*:\s*"([a-z_]{1,32})"')


#: The event as JSON in UTF-8. From any thread.
encode_utf8: Callable[[FromClient | FromServer], bytes] = _encoder.encode


def encode(event: FromClient | FromServer) -> str:
    """The event as a text message. From any thread."""
    return encode_utf8(event).decode()


def decode_from_client(message: str | bytes) -> FromClient:
    """Decode an event from a client. Raises :class:`~syncchat.errors.BadEvent`."""
    if not isinstance(message, str):
        raise BadEvent(f"An event of {SUBPROTOCOL} must be a text message, not a binary one.")
    try:
        return _from_client.decode(message)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _bad(message, exc) from exc


def decode_from_server(text: str) -> FromServer:
    """Decode an event from a server. Raises :class:`~syncchat.errors.BadEvent`."""
    try:
        return _from_server.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise _bad(text, exc) from exc


# Among servers.


class Kick(_Event, frozen=True):
    """The member ``nick`` is removed. Its server tells it so, and sends a Close.

    ``spares_operators``: but not if it is a server operator.
    """

    nick: str
    reason: str
    spares_operators: bool = False


class Forwarded(_Event, frozen=True):
    """A private message from a member of another room, who has the receipt already."""

    message: PrivateMessage


LiveFromServer = FromServer | Kick | Forwarded

_live: msgspec.json.Decoder[LiveFromServer] = msgspec.json.Decoder(LiveFromServer)

#: For an engine that sends live events to other servers.
LIVE_CODEC = LiveCodec(encode_utf8, _live.decode)


def _bad(text: str, exc: Exception) -> BadEvent:
    found = _TYPE.search(text[:4096])
    return BadEvent(f"This is not an event of {SUBPROTOCOL}: {exc}.", found[1] if found else None)
