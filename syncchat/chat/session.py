"""A session: one client's conversation with the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ..closecodes import ABNORMAL, ORDERLY, POLICY_VIOLATION, TRY_AGAIN_LATER, meaning
from ..engine import Draft, Kind, Position
from ..errors import BadEvent, BadNick, BadRoom, EngineFailed, Rejected, RoomsFull
from ..net import Later, WebSocket
from .answers import past, search, whois
from .asked import TOO_MANY_LINES, draft_of, position_of, query_of
from .commands import HELP_TEXT, Help, Quit, Reply, Request
from .dialects import Dialect, reply
from .entering import NickTaken, WantedHistory
from .events import (
    Action,
    AwayRequest,
    BackRequest,
    Error,
    FromServer,
    HistoryRequest,
    Join,
    Leave,
    NamesRequest,
    Nick,
    Private,
    Rooms,
    RoomsRequest,
    Say,
    Search,
    Seen,
    Unwatch,
    Watch,
    WhoisRequest,
)
from .hooks import NO_HOOKS, Hooks, Visitor
from .members import Member
from .moderation import Moderation
from .nicks import check_nick
from .other_rooms import OtherRooms
from .room import Room
from .room_names import check_room, room_of
from .rooms import RoomRegistry
from .sanitize import clean

__all__ = ["Session"]

#: Characters of the reason in ``/away`` and ``/quit``, at most.
_LONGEST_REASON = 200

#: Called with a sender, the name of its room, and the text of its message.
OnMessage = Callable[[Member, str, str], None]


class Session:
    """The session of one connection: a :class:`~syncchat.net.Conversation`.

    ``on_message``, if not None, is called with each message to a room: the sender, the room's
    name, and the text as received. ``on_begin`` is called first, ``on_end`` last. None may block.
    With ``hooks``, which may, the session has its thread from the beginning.
    """

    def __init__(
        self,
        websocket: WebSocket,
        dialect: Dialect,
        rooms: RoomRegistry,
        moderation: Moderation,
        on_message: OnMessage | None,
        on_begin: Callable[[], None],
        on_end: Callable[[], None],
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self._websocket = websocket
        self._dialect = dialect
        self._rooms = rooms
        self._moderation = moderation
        self._on_message = on_message
        self._on_begin = on_begin
        self._on_end = on_end
        self._hooks = hooks
        self._member = Member(websocket, dialect)
        rooms.identify(self._member)
        self._others = OtherRooms(rooms, self._member, websocket, hooks)
        self._query = query_of(websocket.request)
        #: Messages that are not given to the room yet.
        self._drafts: list[Draft] = []
        self._has_said = False  # Whether messages of the client may not be stored yet.
        #: The room that the client is in, or was in last; and whether it is in it.
        self._room: Room
        self._inside = False
        self._visitor: Visitor
        self._begun = self._ended = False
        #: Why it leaves, in its own words.
        self._said_why = ""

    def blocks(self) -> bool:
        """Whether to enter the room of the URL may take time. On any thread."""
        query = self._query
        asks = query.history != WantedHistory() or bool(query.errors)
        keeps = self._member.person is not None  # It is read first.
        return asks or keeps or self._rooms.engine.blocks or bool(self._hooks)

    def begin(self) -> bool:
        """Enter the room of the URL. On any thread. False: the client must be refused."""
        self._note_begin()
        try:
            self._enter_first_room()
        except _Refused:
            return False  # To refuse the client takes time.
        return True

    def run(self) -> None:
        """Serve the client until it leaves. Usually ends by raising :class:`ConnectionClosed`."""
        self._note_begin()
        try:
            if not self._inside:
                self._enter_first_room()
                for error in self._query.errors:
                    self._send_error(error)
            self._listen()
        except TimeoutError:
            # The client does not read the history that it asked for.
            self._websocket.close(TRY_AGAIN_LATER, "too slow: the history was not read")
        except _Refused as refused:
            self._member.send([refused.error])
            self._websocket.close(refused.code, refused.error.text[:100])

    def end(self) -> None:
        """Leave the room. Has no effect if the session has ended."""
        if self._begun and not self._ended:
            self._ended = True
            try:
                self._leave(self._reason())
            finally:
                self._others.end()
                self._on_end()

    def _note_begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._on_begin()

    # Entering and leaving.

    def _enter_first_room(self) -> None:
        """Enter the room that the URL names. Raises :class:`_Refused`."""
        try:
            name = room_of(self._websocket.request.path)
        except BadRoom as exc:
            raise _Refused(POLICY_VIOLATION, Error("room", str(exc))) from exc
        for error in self._query.errors:
            if self._query.strict and error.command == "nick":
                raise _Refused(POLICY_VIOLATION, error)
        self._enter(name, self._query.nick, self._query.history, strict=self._query.strict)

    def _enter(
        self, name: str, nick: str | None, wanted: WantedHistory, *, strict: bool = False
    ) -> None:
        """Enter a room; the client must be in none. Raises :class:`_Refused`."""
        self._visitor = visitor = Visitor(name, self._member)
        welcome = (lambda: self._hooks.welcome(visitor)) if self._hooks.on_join else None
        try:
            self._check_ban(name, nick)
            self._others.prepare()
            self._room = self._rooms.enter(name, self._member, nick, wanted, welcome, strict=strict)
            self._inside = True
            self._others.entered(self._room)
        except NickTaken as exc:
            raise _Refused(POLICY_VIOLATION, Error("nick_taken", f"{exc}.", "nick")) from exc
        except Rejected as exc:
            raise _Refused(POLICY_VIOLATION, Error("refused", str(exc), "join")) from exc
        except RoomsFull as exc:
            raise _Refused(TRY_AGAIN_LATER, Error("room", str(exc))) from exc
        except EngineFailed as exc:
            raise _Refused(TRY_AGAIN_LATER, _unavailable(exc, None)) from exc
        try:
            # A ban that came meanwhile has not found the client in the room.
            self._check_ban(name, self._member.nick)
        except _Refused:
            self._leave(None)
            raise

    def _check_ban(self, room: str, nick: str | None) -> None:
        barred = self._ban(room, self._member.nick if nick is None else nick)
        if barred is not None:
            raise _Refused(POLICY_VIOLATION, msgspec.structs.replace(barred, command="join"))

    def _leave(self, reason: str | None) -> None:
        if self._inside:
            self._inside = False
            self._others.left()
            try:
                self._rooms.leave(self._room, self._member, reason)
            finally:
                self._hooks.part(self._visitor)

    def _reason(self) -> str | None:
        """Why the client left; None if the connection was closed in order."""
        if self._said_why:
            return self._said_why
        code = self._websocket.close_code
        if code is None or code in ORDERLY:
            return None
        if code == POLICY_VIOLATION:
            return "removed"
        return "connection lost" if code == ABNORMAL else meaning(code)

    def _quit_reason(self, text: str) -> str:
        """The reason with which the client leaves, if it may say it: everybody reads it."""
        if self._silence() is not None:
            return ""
        return " ".join(clean(text).split())[:_LONGEST_REASON]

    # Receiving.

    def _listen(self) -> None:
        # An append that waits for a disk must not delay the clients of other rooms.
        # So must an on_message that waits.
        take = self.take if self._rooms.can_post_later and not self._hooks.on_message else None
        while True:
            # Messages that arrive together are published together.
            for message in self._websocket.recv_many(take=take):
                try:
                    asked = self._dialect.decode(message)
                except BadEvent as exc:
                    self._send_error(Error("malformed", str(exc), exc.command))
                    continue
                match asked:
                    case Say() | Action():
                        self._post(asked)
                    case Quit() | Leave():
                        self._said_why = self._quit_reason(asked.reason)
                        self._flush()
                        self._room.drain()
                        return
                    case None:
                        pass
                    case _:
                        # Keep the order: publish the client's earlier messages first.
                        self._flush()
                        self._act_on(asked)
            self._flush()
            if self._websocket.closing:
                # The next recv answers the Close. Before that, the client must receive
                # its own last messages.
                self._room.drain()

    def take(self, messages: Sequence[str | bytes], later: Later) -> int:
        """Take the messages that come before any that may block; returns their number.

        Runs while the session's own thread waits, and must not block.
        """
        if self._silence() is not None:
            return 0
        heard: list[Say | Action] = []
        drafts: list[Draft] = []
        size = others = 0
        for message in messages:
            try:
                asked = self._dialect.decode(message)
            except BadEvent:
                break
            if isinstance(asked, Watch | Unwatch) and self._others.watches_at_once:
                self._others.carry_out(asked, self._room)
                others += 1
                continue
            if not isinstance(asked, Say | Action):
                break
            draft = self._draft(asked)
            if draft is None:
                break
            heard.append(asked)
            drafts.append(draft)
            size += len(draft.text)
        if drafts and not self._room.post_later(self._member, drafts, size, later):
            return 0  # To watch rooms twice does no harm.
        self._has_said = True
        if self._on_message is not None:
            for asked in heard:
                self._report(asked, self._on_message)
        return len(drafts) + others

    def _act_on(self, asked: Request) -> None:
        match asked:
            case Private() | Reply() | Watch() | Unwatch() | Seen():
                self._others.carry_out(asked, self._room)
            case Nick():
                self._rename(asked.nick)
            case Join():
                self._join(asked)
            case NamesRequest():
                self._room.tell_names(self._member)
            case WhoisRequest():
                self._answer("whois", lambda: whois(self._rooms, self._room, clean(asked.nick)))
            case RoomsRequest():
                self._answer("rooms", lambda: Rooms(self._rooms.counts()))
            case HistoryRequest():
                self._answer("history", lambda: past(self._rooms, self._room, asked))
            case Search():
                words, limit = clean(asked.words), asked.limit
                self._answer("search", lambda: search(self._rooms, self._room, words, limit))
            case AwayRequest():
                self._go_away(asked.reason)
            case BackRequest():
                self._room.set_away(self._member, None)
            case Help():
                self._room.send(self._member, reply(HELP_TEXT))
            case _:
                self._room.tell(
                    self._member, self._moderation.act(self._member, self._room.name, asked)
                )

    def _flush(self) -> None:
        if self._drafts:
            drafts, self._drafts = self._drafts, []
            self._has_said = True
            self._room.post(self._member, drafts)

    def _answer(self, command: str, read: Callable[[], FromServer]) -> None:
        """Send the client the answer to ``command`` that ``read`` gets from the engine."""
        if self._has_said:  # The answer must contain that.
            self._has_said = False
            self._room.drain()
        try:
            self._room.answer(self._member, read())
        except EngineFailed as exc:
            self._send_error(_unavailable(exc, command))

    def _send_error(self, error: Error) -> None:
        self._flush()
        self._room.tell(self._member, error)

    # What a client asks for.

    def _report(self, asked: Say | Action, on_message: OnMessage) -> None:
        text = asked.text if isinstance(asked, Say) else f"/me {asked.text}"
        on_message(self._member, self._room.name, text)

    def _draft(self, asked: Say | Action) -> Draft | None:
        """The message to post; None: it has too many lines."""
        kind: Kind = "message" if isinstance(asked, Say) else "action"
        return draft_of(self._member.nick, asked.text, kind, asked.nonce)

    def _post(self, asked: Say | Action) -> None:
        if self._on_message is not None:
            self._report(asked, self._on_message)
        draft = self._draft(asked)
        if draft is None:
            self._send_error(Error("too_big", TOO_MANY_LINES, nonce=asked.nonce))
            return
        command = "say" if draft.kind == "message" else "action"
        silence = self._silence()
        if silence is not None:
            error = msgspec.structs.replace(silence, command=command, nonce=asked.nonce)
            self._send_error(error)
            return
        try:
            self._hooks.admit(draft, self._room.name, self._member.address)
        except Rejected as exc:
            self._send_error(Error("refused", str(exc), command, asked.nonce))
        else:
            self._drafts.append(draft)

    def _silence(self) -> Error | None:
        """Why the client may not speak in its room; None: it may."""
        member = self._member
        return self._rooms.permits.silence(
            self._room.name, member.nick, member.person, self._websocket.request
        )

    def _ban(self, room: str, nick: str) -> Error | None:
        """Why the client may not be in a room with this nick; None: it may."""
        return self._rooms.permits.ban(room, nick, self._member.person, self._member.host)

    def _rename(self, nick: str) -> None:
        member, room = self._member, self._room.name
        try:
            nick = check_nick(nick)
            barred = self._ban(room, nick)
            if barred is None and self._rooms.permits.is_muted(room, member):
                barred = Error("muted", "You cannot change your nick while you are muted.")
            if barred is not None:
                self._send_error(msgspec.structs.replace(barred, command="nick"))
                return
            self._room.rename(member, nick)
            if self._hooks:
                # They see the new nick with the next message.
                self._room.drain()
        except BadNick as exc:
            self._send_error(Error("nick", str(exc), "nick"))

    def _join(self, asked: Join) -> None:
        here, rooms = self._room, self._rooms
        try:
            name = check_room(asked.room)
            if name == here.name:
                raise BadRoom(f"You are already in {name}.")
            barred = self._ban(name, self._member.nick)
            if barred is not None:
                self._send_error(msgspec.structs.replace(barred, command="join"))
                return
            # Try everything that can fail before the client leaves the old room.
            with rooms.used(name) as room:
                room.run(room.follow)
                # A rename may still be in the old room's queue.
                here.drain()
                nick = self._member.chosen
                after = None if asked.after is None else position_of(asked.after)
                last = self._query.history.last if self._dialect.joins_by_name else asked.history
                position = here.position()
                self._leave(None)
                self._move(here.name, position, name, nick, WantedHistory(after, last))
        except (BadRoom, RoomsFull) as exc:
            self._send_error(Error("room", str(exc), "join"))
        except EngineFailed as exc:
            self._send_error(_unavailable(exc, "join"))

    def _move(
        self, old: str, position: Position, new: str, nick: str | None, wanted: WantedHistory
    ) -> None:
        """Enter the room ``new``, or ``old`` again if that is refused. In none meanwhile."""
        try:
            self._enter(new, nick, wanted, strict=self._query.strict)
        except _Refused as refused:
            if refused.code != POLICY_VIOLATION:
                raise
            self._enter(old, nick, WantedHistory(position))
            self._send_error(msgspec.structs.replace(refused.error, command="join"))

    def _go_away(self, text: str) -> None:
        # In one line, since a notice is one line.
        reason = " ".join(clean(text).split())
        if len(reason) > _LONGEST_REASON:
            text = f"A reason must have at most {_LONGEST_REASON} characters."
            self._send_error(Error("too_big", text, "away"))
        elif reason and (silence := self._silence()) is not None:
            # Everybody would read the reason.
            self._send_error(msgspec.structs.replace(silence, command="away"))
        else:
            self._room.set_away(self._member, reason)


class _Refused(Exception):
    """The client cannot enter a room. It gets ``error`` and is closed with ``code``."""

    def __init__(self, code: int, error: Error) -> None:
        super().__init__(error.text)
        self.code = code
        self.error = error


def _unavailable(exc: EngineFailed, command: str | None) -> Error:
    return Error("unavailable", f"The history cannot be read at the moment: {exc}.", command)
