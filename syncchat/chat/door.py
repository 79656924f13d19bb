"""The chat over plain HTTP: a request says something in a room, follows it, or reads it.

``POST /ROOM`` says what its body says. ``GET /ROOM`` follows the room, if the client asks for one
of the dialects of :mod:`syncchat.chat.streams`; otherwise it is for the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from urllib.parse import parse_qs

from ..closecodes import NORMAL, POLICY_VIOLATION, TRY_AGAIN_LATER
from ..engine import Draft, Position
from ..errors import (
    AppendUnknown,
    BadRoom,
    ConnectionClosed,
    EngineFailed,
    NickTaken,
    Rejected,
    RoomsFull,
)
from ..net import (
    Deadline,
    Follower,
    Following,
    HostBuckets,
    Refusal,
    Request,
    Response,
    Route,
    View,
    format_address,
)
from .asked import (
    PLACE_FORM,
    TOO_MANY_LINES,
    draft_of,
    nick_of,
    nonce_of,
    position_of,
    query_of,
    refused,
    said_in,
)
from .dialects import LineFormat
from .entering import WantedHistory
from .events import ClientLimits, Error
from .hooks import Hooks, Visitor
from .members import CLOSE_SECONDS, Member
from .nicks import key_of
from .people import Person
from .room import Room
from .room_names import room_of
from .rooms import RoomRegistry
from .streams import EventStream, JsonLines, StreamDialect, TextLines

__all__ = ["Door", "DoorSettings"]

#: The methods of a room's URL.
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")

#: The formats by their names in the URL, and by the media types for which a client asks.
_FORMATS = ("ndjson", "sse", "text")
_ACCEPTED = {"application/x-ndjson": "ndjson", "text/event-stream": "sse"}

#: Characters, at most, of a query whose parameters are cached.
_SHORT = 256
_NO_PARAMETERS: Mapping[str, Sequence[str]] = MappingProxyType({})

#: Before the first message: everything that is kept follows it, without a gap.
_BEGINNING = Position("", 0)

#: Bytes of JSON around a text, at most; and how many bytes a character's escape may take.
_ENVELOPE, _ESCAPED = 1024, 6

_STREAM_HEADERS = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """The settings and callbacks of a door. No callback may block."""

    #: How a message is shown as text.
    form: LineFormat
    limits: ClientLimits
    #: Requests per second that are taken from a robot; 0: no limit.
    robot_rate: float
    hooks: Hooks
    #: Answers the requests that are not for the door.
    other: View
    #: Whether ``other`` is an application, which has URLs and methods of its own. Otherwise, all
    #: requests but those of a page are for the door.
    is_beside_application: bool
    #: Called with each message: the sender's address and nick, the room, the text as received.
    on_message: Callable[[str, str, str, str], None] | None
    #: Called with the address of a follower that comes, and of one that goes.
    on_begin: Callable[[str], None]
    on_end: Callable[[str], None]


class Door:
    """The views of all rooms. They run on the connections' threads."""

    def __init__(self, rooms: Callable[[], RoomRegistry | None], settings: DoorSettings) -> None:
        self._registry = rooms
        self._settings = settings
        limits = settings.limits
        self._most = limits.message
        #: Each request takes a token of its client's address: a program makes a new connection
        #: for each message.
        self._buckets = HostBuckets(limits.rate, limits.burst)
        #: The same for robots, by their names.
        self._robots = HostBuckets(settings.robot_rate, limits.burst)

    @property
    def route(self) -> Route:
        """The route of all rooms."""
        methods = None if self._settings.is_beside_application else _METHODS
        return Route(self._view, methods, self._takes)

    def _takes(self, request: Request) -> bool:
        """Whether a request is for the door."""
        if not self._settings.is_beside_application:
            return request.method not in ("GET", "HEAD") or _is_read(request)
        if "/" in request.path[1:].removesuffix("/"):
            return False
        match request.method:
            case "POST":
                return True
            case "GET" | "HEAD":
                # An application may have formats of its own.
                formats = _parameters(request.query).get("format", _FORMATS)
                return formats[-1] in _FORMATS and _is_read(request)
            case "OPTIONS":
                return _header(request, b"access-control-request-method") is not None
            case _:
                return False

    def _view(self, request: Request) -> Response:
        if not self._takes(request):
            return self._settings.other(request)
        # The request has been checked, so its origin is allowed.
        origin = _header(request, b"origin")
        cors = () if origin is None else _cors_headers(origin)
        try:
            if request.method == "OPTIONS":
                return Response(b"", status=HTTPStatus.NO_CONTENT, headers=[*_preflight(), *cors])
            if request.method == "POST":
                return self._publish(request, cors)
            return self._read(request, cors)
        except Refusal as refusal:
            refusal.headers = [*refusal.headers, *cors]
            raise

    def _rooms(self) -> RoomRegistry:
        rooms = self._registry()
        if rooms is None:
            raise _unavailable("The server is starting or stopping.")
        return rooms

    def _charge(self, request: Request, person: Person | None) -> None:
        """Take a token of the client's bucket. Raises :class:`Refusal` (429)."""
        if person is not None and person.robot:
            wait = self._robots.take(person.name)
        else:
            wait = self._buckets.take(request.remote_address[0])
        if wait:
            text = "You send too many requests; try again later."
            retry = [("Retry-After", str(ceil(wait)))]
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, text, retry)

    # Saying something.

    def _publish(self, request: Request, cors: Sequence[tuple[str, str]]) -> Response:
        body = request.read_body(self._most * _ESCAPED + _ENVELOPE)
        rooms = self._rooms()
        person = rooms.person(request)
        self._charge(request, person)
        if (_header(request, b"content-encoding") or "identity").lower() != "identity":
            text = "A message must not be compressed."
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
        room = _room_of(request)
        said = said_in(_header(request, b"content-type") or "", body)
        if len(said.text.encode()) > self._most:
            raise _too_large(f"A message must have at most {self._most} bytes.")
        asked = _parameters(request.query).get("nick", [said.nick])
        address = format_address(request.remote_address)
        own = address if person is None else person.name
        nick = own if asked[-1] is None else nick_of(asked[-1])
        if key_of(nick) == key_of(own):
            nick = own
        key = _header(request, b"idempotency-key")
        nonce = said.nonce if key is None else nonce_of(key)
        draft = draft_of(nick, said.text, said.kind, nonce)
        if draft is None:
            raise _too_large(TOO_MANY_LINES)
        if not draft.text:
            raise refused("The message is empty.")
        if self._settings.on_message is not None:
            text = said.text if said.kind == "message" else f"/me {said.text}"
            self._settings.on_message(address, nick, room, text)
        position = self._say(rooms, room, draft, request, person)
        answer = b'{"epoch":"%b","offset":%d}\n' % (position.epoch.encode(), position.offset)
        return Response(answer, "application/json", HTTPStatus.CREATED, cors)

    def _say(
        self,
        rooms: RoomRegistry,
        name: str,
        draft: Draft,
        request: Request,
        person: Person | None,
    ) -> Position:
        """Have the message kept. Raises :class:`Refusal`."""
        address = format_address(request.remote_address)
        _check(
            rooms.permits.ban(name, draft.nick, person, request.remote_address[0])
            or rooms.permits.silence(name, draft.nick, person, request)
        )
        try:
            return rooms.publish(
                name,
                draft,
                person=person,
                admit=lambda draft: self._settings.hooks.admit(draft, name, address),
            )
        except NickTaken as exc:
            raise Refusal(HTTPStatus.CONFLICT, str(exc)) from exc
        except Rejected as exc:
            raise Refusal(HTTPStatus.FORBIDDEN, str(exc)) from exc
        except AppendUnknown as exc:
            raise _unavailable(
                f"It is unknown whether the message was stored: {exc}. Send it again with the same"
                " Idempotency-Key."
            ) from exc
        except (EngineFailed, RoomsFull) as exc:
            raise _unavailable(f"The message was not stored; send it again later: {exc}") from exc

    # Reading.

    def _read(self, request: Request, cors: Sequence[tuple[str, str]]) -> Response:
        query = query_of(request)
        history = query.history
        for error in query.errors:
            raise refused(error.text)
        if place := _header(request, b"last-event-id"):
            # An EventSource repeats the URL, too, of which it has had the history.
            if not PLACE_FORM.fullmatch(place):
                raise refused("The Last-Event-ID is not EPOCH:OFFSET.")
            history = WantedHistory(position_of(place))
        room = _room_of(request)
        asked = _parameters(request.query)
        dialect = self._dialect(_format_of(request, asked), chunked=request.http_version == "1.1")
        polls = asked.get("poll", ["0"])[-1] != "0"
        rooms = self._rooms()
        if polls:
            self._charge(request, rooms.person(request))
            if history == WantedHistory():
                history = WantedHistory(_BEGINNING)
        follow = _Follow(rooms, room, dialect, history, self._settings, polls=polls)
        return Following(
            begin=follow.begin,
            end=follow.end,
            blocks=rooms.engine.blocks or bool(self._settings.hooks.on_leave),
            content_type=dialect.content_type,
            headers=[*_STREAM_HEADERS, *cors],
            keep_alive=dialect.keep_alive,
            farewell=dialect.farewell,
            pause=dialect.pause,
        )

    def _dialect(self, name: str, *, chunked: bool) -> StreamDialect:
        match name:
            case "ndjson":
                return JsonLines(chunked)
            case "sse":
                return EventStream(chunked)
            case _:
                return TextLines(chunked, form=self._settings.form)


class _Follow:
    """A request that follows a room. ``polls``: it gets what there is, and leaves."""

    def __init__(
        self,
        rooms: RoomRegistry,
        name: str,
        dialect: StreamDialect,
        history: WantedHistory,
        settings: DoorSettings,
        *,
        polls: bool,
    ) -> None:
        self._rooms = rooms
        self._name = name
        self._dialect = dialect
        self._history = history
        self._settings = settings
        self._polls = polls
        #: The room while the follower is in it, and the follower.
        self._inside: tuple[Room, Visitor, Member] | None = None

    def begin(self, follower: Follower) -> None:
        """Enter the room. Raises :class:`Refusal`."""
        member = Member(follower, self._dialect)
        self._rooms.identify(member)
        visitor = Visitor(self._name, member)
        hooks = self._settings.hooks
        admit = (lambda: hooks.welcome(visitor)) if hooks.on_join else None
        _check(self._rooms.permits.ban(self._name, "", member.person, member.host))
        try:
            room = self._rooms.enter(self._name, member, None, self._history, admit)
        except Rejected as exc:
            raise Refusal(HTTPStatus.FORBIDDEN, str(exc)) from exc
        except (EngineFailed, RoomsFull) as exc:
            raise _unavailable(f"The room cannot be read at the moment: {exc}") from exc
        except TimeoutError as exc:
            reason = "too slow: the history was not read"
            follower.begin_close(TRY_AGAIN_LATER, reason, Deadline.after(CLOSE_SECONDS))
            raise ConnectionClosed(TRY_AGAIN_LATER, reason) from exc
        self._inside = room, visitor, member
        self._settings.on_begin(member.address)
        barred = self._rooms.permits.ban(self._name, "", member.person, member.host)
        if barred is not None:
            # A ban that came meanwhile has not found it in the room.
            follower.begin_close(POLICY_VIOLATION, barred.text, Deadline.after(CLOSE_SECONDS))
        if self._polls:
            self.end()
            follower.begin_close(NORMAL, "", Deadline.after(CLOSE_SECONDS))

    def end(self) -> None:
        """Leave the room. Has no effect outside of it."""
        inside, self._inside = self._inside, None
        if inside is None:
            return
        room, visitor, member = inside
        try:
            self._rooms.leave(room, member)
        finally:
            self._settings.hooks.part(visitor)
            self._settings.on_end(member.address)


# What a request asks for.


def _is_read(request: Request) -> bool:
    """Whether a ``GET`` follows a room or reads it."""
    if not _READS.isdisjoint(_parameters(request.query)):
        return True
    return any(
        name == b"accept" and _accepted(value.decode("latin-1"))
        for name, value in request.raw_headers
    )


def _header(request: Request, name: bytes) -> str | None:
    """The value of a header. It is faster than ``Request.headers``, which has all."""
    found: bytes | None = None
    for each, value in request.raw_headers:
        if each == name:
            found = value if found is None else found + b", " + value
    return None if found is None else found.decode("latin-1")


def _parameters(query: str) -> Mapping[str, Sequence[str]]:
    """The parameters of a URL. A program often sends the same ones."""
    if not query:
        return _NO_PARAMETERS
    return _cached(query) if len(query) <= _SHORT else parse_qs(query, keep_blank_values=True)


@lru_cache(maxsize=1024)
def _cached(query: str) -> Mapping[str, Sequence[str]]:
    return parse_qs(query, keep_blank_values=True)


_READS = frozenset({"format", "poll"})


def _accepted(accept: str) -> str | None:
    """The first format in an ``Accept`` header; None: it has none."""
    for each in accept.lower().split(","):
        kind = each.partition(";")[0].strip()
        if kind in _ACCEPTED:
            return _ACCEPTED[kind]
    return None


def _format_of(request: Request, asked: Mapping[str, Sequence[str]]) -> str:
    if "format" not in asked:
        return _accepted(_header(request, b"accept") or "") or _FORMATS[0]
    name = asked["format"][-1]
    if name not in _FORMATS:
        raise refused(f"The URL's format= must be one of {', '.join(_FORMATS)}.")
    return name


def _room_of(request: Request) -> str:
    try:
        return room_of(request.path)
    except BadRoom as exc:
        status = HTTPStatus.NOT_FOUND if "/" in request.path[1:] else HTTPStatus.BAD_REQUEST
        raise Refusal(status, str(exc)) from exc


# Answers.


def _cors_headers(origin: str) -> Sequence[tuple[str, str]]:
    """Headers that let a page of this allowed origin read the answer."""
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", "Retry-After"),
        ("Vary", "Origin"),
    )


def _preflight() -> Sequence[tuple[str, str]]:
    """What a page of another origin may send."""
    return (
        ("Allow", ", ".join(_METHODS)),
        ("Access-Control-Allow-Methods", "GET, HEAD, POST"),
        (
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, Idempotency-Key, Last-Event-ID",
        ),
        ("Access-Control-Max-Age", "600"),
    )


def _check(error: Error | None) -> None:
    """Refuse a client that is banned or may not speak (403)."""
    if error is not None:
        raise Refusal(HTTPStatus.FORBIDDEN, error.text)


def _too_large(text: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)


def _unavailable(text: str) -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text)
