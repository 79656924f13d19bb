"""The server's console: operators' commands from the machine on which the server runs.

The server listens at a socket in a folder that only its own user may use; ``syncchat-server do``
connects to it. A request is the room and the command line as JSON, the answer a text. Another
server of this user can ask for the listening sockets, to take the port over: this one then stops.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Self, get_args

import msgspec
from platformdirs import user_runtime_path

from .chat.commands import parse
from .chat.dialects import LineFormat, lines_of
from .chat.events import Error, FromOperator, FromServer
from .chat.room_names import check_room
from .errors import BadEvent, BadRoom

__all__ = [
    "CAN_HAND_OVER",
    "RELOAD",
    "Answer",
    "Console",
    "Request",
    "ask",
    "parse_request",
    "take_over",
]

logger = logging.getLogger("syncchat.chat")

#: Seconds in which a request must come, and in which its answer must.
_PATIENCE = 5.0
#: Seconds that a server which is taken over has for its stop.
_HANDING_OVER = 30.0
#: Requests that are no commands of operators: to read the settings again, and to take over.
RELOAD, _TAKE_OVER = "reload", "take-over"
#: Bytes of a request or an answer, at most.
_LONGEST = 1024 * 1024

#: Whether a process can give its sockets to another one.
CAN_HAND_OVER = reduction.HAVE_SEND_HANDLE and sys.platform != "win32"

_FORM = LineFormat("{sender}: {text}")


class Request(msgspec.Struct):
    """A command of an operator, without a slash, and the room that it is about."""

    room: str
    line: str


class Answer(msgspec.Struct):
    """What has become of a request. ``is_done``: it is carried out."""

    is_done: bool
    text: str


def parse_request(request: Request) -> tuple[str, FromOperator]:
    """The room and the event. Raises :class:`ValueError`, whose text is for a person."""
    try:
        asked: Any = parse(f"/{request.line}")
        room = check_room(request.room)
    except (BadEvent, BadRoom) as exc:
        raise ValueError(str(exc)) from exc
    if isinstance(asked, get_args(FromOperator)):
        return room, asked
    word = request.line.split()[0]
    raise ValueError(f"{word} is not a command of operators, such as kick, ban or topic.")


def ask(port: int, request: Request) -> Answer:
    """Have the server of this user on ``port`` carry out a request.

    Raises :class:`OSError` if there is none, or if it does not answer.
    """
    address = _address(port)
    if sys.platform != "win32":
        _check_private(Path(address).parent)
    with _connect(address) as connection:
        connection.send_bytes(msgspec.json.encode(request))
        if not connection.poll(_PATIENCE):
            raise TimeoutError(f"the server on port {port} does not answer")
        try:
            return msgspec.json.decode(connection.recv_bytes(_LONGEST), type=Answer)
        except EOFError:
            raise ConnectionError(f"the server on port {port} has stopped") from None


def take_over(port: int) -> list[socket.socket] | None:
    """The listening sockets of the server of this user on ``port``, which stops for it.

    Returns when it has stopped, with its engine closed; None if no server runs. Clients that
    connect meanwhile wait at the sockets. Raises :class:`OSError` if it does not let go.
    """
    try:
        connection = _connect(_address(port))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    with connection, contextlib.ExitStack() as undo:
        connection.send_bytes(msgspec.json.encode(Request("", _TAKE_OVER)))
        if not connection.poll(_PATIENCE):
            raise TimeoutError(f"the server on port {port} does not answer")
        sockets = []
        try:
            answer = msgspec.json.decode(connection.recv_bytes(_LONGEST), type=Answer)
            if not answer.is_done:
                raise OSError(answer.text)
            for _ in range(int(answer.text)):
                sockets.append(socket.socket(fileno=reduction.recv_handle(connection)))
                undo.enter_context(sockets[-1])
        except EOFError:
            raise ConnectionError(f"the server on port {port} has stopped") from None
        # It ends the connection when it has stopped.
        if not connection.poll(_HANDING_OVER):
            raise TimeoutError(f"the server on port {port} does not stop")
        undo.pop_all()
    return sockets


class Console:
    """Answers requests on a thread of its own, ``syncchat-console``, until :meth:`close`.

    ``act`` carries out a request about a room. ``reload`` reads the settings again, and returns
    what has changed; it may raise :class:`ValueError`. ``hand_over`` makes the server stop, and
    returns duplicates of its listening sockets, which are closed here; it may raise
    :class:`RuntimeError`. Raises :class:`OSError` if no socket can be made.
    """

    def __init__(
        self,
        port: int,
        act: Callable[[FromOperator, str], FromServer],
        reload: Callable[[], str],
        hand_over: Callable[[], Sequence[socket.socket]],
    ) -> None:
        self._act, self._reload, self._hand_over = act, reload, hand_over
        #: The connections of servers that wait for the end of this one.
        self._waiting: list[socket.socket] = []
        address = _address(port)
        self._address = address
        if sys.platform != "win32":
            _make_private(Path(address).parent)
            _remove_left(address)
        self._listener = Listener(address)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="syncchat-console")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, and remove the socket."""
        self._closing = True
        # Only a connection wakes a thread that waits for one.
        with contextlib.suppress(OSError):
            _connect(self._address).close()
        self._thread.join()
        self._listener.close()
        for sock in self._waiting:
            sock.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                with self._listener.accept() as connection:
                    self._serve(connection)
            except (OSError, EOFError) as exc:
                # The other end has gone.
                logger.debug("the console's client: %s", exc)
            except Exception:
                logger.exception("a request to the console failed")

    def _serve(self, connection: Connection) -> None:
        if self._closing or not connection.poll(_PATIENCE):
            return
        try:
            request = msgspec.json.decode(connection.recv_bytes(_LONGEST), type=Request)
        except msgspec.DecodeError as exc:
            answer = Answer(is_done=False, text=str(exc))
            sockets: Sequence[socket.socket] = ()
        else:
            answer, sockets = self._answer(request)
        connection.send_bytes(msgspec.json.encode(answer))
        with contextlib.ExitStack() as sent:
            for sock in sockets:
                reduction.send_handle(connection, sent.enter_context(sock).fileno(), 0)
        if sockets:
            self._waiting.append(socket.socket(fileno=os.dup(connection.fileno())))

    def _answer(self, request: Request) -> tuple[Answer, Sequence[socket.socket]]:
        """The answer, and the sockets that go with it."""
        try:
            if request.line == RELOAD:
                return Answer(is_done=True, text=self._reload()), ()
            if request.line == _TAKE_OVER:
                if not CAN_HAND_OVER:
                    raise RuntimeError("this system cannot hand a socket over")
                sockets = self._hand_over()
                return Answer(is_done=True, text=str(len(sockets))), sockets
            room, asked = parse_request(request)
            event = self._act(asked, room)
        except (ValueError, RuntimeError) as exc:
            return Answer(is_done=False, text=str(exc)), ()
        if isinstance(event, Error):
            return Answer(is_done=False, text=event.text), ()
        text = "\n".join(lines_of(event, _FORM, ""))
        lines = [line.removeprefix("->").strip() for line in text.split("\n")]
        return Answer(is_done=True, text="\n".join(lines)), ()


def _address(port: int) -> str:
    if sys.platform == "win32":
        return rf"\\.\pipe\syncchat-{os.environ.get('USERNAME', '')}-{port}"
    with warnings.catch_warnings():
        # That XDG_RUNTIME_DIR is not set: then it is another folder of this user.
        warnings.simplefilter("ignore")
        return str(user_runtime_path("syncchat") / f"{port}.console")


def _connect(address: str) -> Connection:
    connection: Any = Client(address)
    return connection  # type: ignore[no-any-return]


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(folder)


def _check_private(folder: Path) -> None:
    """Raise :class:`OSError` unless the folder is there, and for this user alone."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} must belong to this user alone (mode 0700)")


def _remove_left(address: str) -> None:
    """Remove the socket of a server that has ended without doing so."""
    try:
        _connect(address).close()
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        Path(address).unlink(missing_ok=True)
    else:
        raise FileExistsError(f"another server has the console at {address}")
