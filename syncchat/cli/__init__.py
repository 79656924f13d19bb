"""The commands: flags, environment variables, exit codes; export and import of the log; people.

Exit codes: 0 success, 1 failure, 2 wrong usage (from argparse).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from .._version import __version__
from ..chat.room_names import check_room, valid_names
from ..engine import Archive, Retention, export_logs, import_logs, open_archive
from . import server
from .client import client_main
from .do import do_main
from .people import people_main
from .settings import Setting, reason

__all__ = ["client_main", "main", "server_main"]

_ENGINE, _KEEP = (
    setting for setting in server.SETTINGS["storage"] if setting.name in ("engine", "keep")
)


#: The commands that are in modules of their own.
_OTHERS = {"do": do_main, "people": people_main}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m syncchat server|client [flags]``. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m syncchat", description="A chat server and its client."
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    parser.add_argument("command", choices=["server", "client"], help="the command to run")
    chosen = parser.parse_args(arguments[:1])
    run = server_main if chosen.command == "server" else client_main
    return run(arguments[1:], prog=f"python -m syncchat {chosen.command}")


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a server; ``export``, ``import`` and ``do`` are other commands.

    With ``people``, give people tokens. Returns the exit code. Call it on the main thread only,
    since it sets signal handlers.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = prog or Path(sys.argv[0]).name
    if arguments and arguments[0] in _OTHERS:
        return _OTHERS[arguments[0]](arguments[1:], f"{program} {arguments[0]}")
    if not arguments or arguments[0] not in ("export", "import"):
        return server.server_main(arguments, prog=prog)
    command = arguments[0]
    parser = argparse.ArgumentParser(
        prog=f"{program} {command}",
        description=_ABOUT[command],
        epilog="Stop the servers of the engine first."
        " Each flag can be set by an environment variable, as for the server.",
    )
    parser.add_argument("file", metavar="FILE", help="the file; - for the standard stream")
    parser.add_argument("--engine", help="sqlite:PATH, or the URL of a Redis")
    if command == "import":
        parser.add_argument(
            "--keep", metavar="N|TIME", help="how much of each room to import (all)"
        )
    options = parser.parse_args(arguments[1:])
    name = _value(parser, _ENGINE, options.engine)
    keep = _value(parser, _KEEP, options.keep) if command == "import" else None
    archive: Archive | None = None
    try:
        archive = open_archive(name, valid_names, is_new=command == "import")
        if command == "export":
            with _output(options.file) as file:
                rooms, messages = export_logs(archive, file)
        else:
            with _input(options.file) as file:
                rooms, messages = import_logs(archive, file, keep or Retention(), check_room)
    except KeyboardInterrupt:
        return _fail("interrupted")
    except OSError as exc:
        return _fail(str(exc) if exc.errno is None else f"{options.file}: {reason(exc)}")
    except ValueError as exc:
        if archive is None:
            parser.error(f"argument --engine: {exc}")
        return _fail(f"{options.file}: {exc}")
    finally:
        if archive is not None:
            archive.close()
    print(f"{command}ed {messages} messages of {rooms} rooms", file=sys.stderr)
    return 0


_ABOUT = {
    "export": "Write the messages of all rooms to a file, which import reads.",
    "import": "Add the messages of all rooms of a file, with their offsets and epochs, so that"
    " clients go on where they were. It can be repeated if it was interrupted.",
}


def _value(parser: argparse.ArgumentParser, setting: Setting, flag: str | None) -> Any:  # noqa: ANN401 - as the setting's
    """The value of a setting, from its flag or the environment."""
    text = flag or os.environ.get(setting.variable) or setting.default
    try:
        return None if text is None else setting.convert(text)
    except ValueError as exc:
        where = "" if flag else f" (in {setting.variable})"
        parser.error(f"argument {setting.argument}: {exc}{where}")


@contextlib.contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """The file to write, or standard output. A file is replaced when the new one is complete."""
    path = Path(name).resolve()
    if name == "-" or (path.exists() and not path.is_file()):
        # What is left in a buffer of sys.stdout would fail again when the process ends.
        with _opened(sys.stdout, "wb") if name == "-" else path.open("wb") as file:
            yield file
        return
    part = path.with_name(f"{path.name}.part")
    # Private, as what people say is.
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _input(name: str) -> Iterator[BinaryIO]:
    """The file to read, or standard input."""
    with _opened(sys.stdin, "rb") if name == "-" else Path(name).open("rb") as file:
        yield file


def _opened(stream: TextIO | None, mode: str) -> BinaryIO:
    """A standard stream as a file of its own. It is None if the parent process has closed it."""
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return cast("BinaryIO", os.fdopen(os.dup(stream.fileno()), mode))


def _fail(text: str) -> int:
    print(" ".join(text.split()), file=sys.stderr)
    return 1
