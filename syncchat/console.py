"""The server's console: operators' commands from the machine on which the server runs.

The server listens at a socket in a folder that only its own user may use; ``syncchat-server do``
connects to it. A request is the room and the command line as JSON, the answer a text.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
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

__all__ = ["Answer", "Console", "Request", "ask", "parse_request"]

logger = logging.getLogger("syncchat.chat")

#: Seconds in which a request must come, and in which its answer must.
_PATIENCE = 5.0
#: Bytes of a request or an answer, at most.
_LONGEST = 1024 * 1024

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


class Console:
    """Answers requests on a thread of its own, ``syncchat-console``, until :meth:`close`.

    ``act`` carries out a request about a room. Raises :class:`OSError` if no socket can be made.
    """

    def __init__(self, port: int, act: Callable[[FromOperator, str], FromServer]) -> None:
        self._act = act
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
        answer = self._answer(connection.recv_bytes(_LONGEST))
        connection.send_bytes(msgspec.json.encode(answer))

    def _answer(self, data: bytes) -> Answer:
        try:
            room, asked = parse_request(msgspec.json.decode(data, type=Request))
        except (ValueError, msgspec.DecodeError) as exc:
            return Answer(is_done=False, text=str(exc))
        try:
            event = self._act(asked, room)
        except RuntimeError as exc:
            return Answer(is_done=False, text=str(exc))
        if isinstance(event, Error):
            return Answer(is_done=False, text=event.text)
        lines = [line.removeprefix("->").strip() for line in lines_of(event, _FORM, "")]
        return Answer(is_done=True, text="\n".join(lines))


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
