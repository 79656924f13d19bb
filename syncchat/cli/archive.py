"""The commands ``export`` and ``import``, and what the commands over an engine share."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from ..chat.room_names import check_room, valid_names
from ..engine import Archive, Retention, export_logs, import_logs, open_archive
from .server import SETTINGS
from .settings import Setting, reason

__all__ = ["ENGINE", "KEEP", "archive_main", "archive_parser", "fail", "replaced", "value_of"]

ENGINE, KEEP = (setting for setting in SETTINGS["storage"] if setting.name in ("engine", "keep"))

_ABOUT = {
    "export": "Write the messages of all rooms to a file, which import reads.",
    "import": "Add the messages of all rooms of a file, with their offsets and epochs, so that"
    " clients go on where they were. It can be repeated if it was interrupted.",
}


def archive_parser(command: str, prog: str) -> argparse.ArgumentParser:
    """The parser of ``export`` or ``import``."""
    parser = argparse.ArgumentParser(
        prog=prog,
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
    return parser


def archive_main(command: str, argv: Sequence[str], prog: str) -> int:
    """Export or import. Returns the exit code."""
    parser = archive_parser(command, prog)
    options = parser.parse_args(argv)
    name = value_of(parser, ENGINE, options.engine)
    keep = value_of(parser, KEEP, options.keep) if command == "import" else None
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
        return fail("interrupted")
    except OSError as exc:
        return fail(str(exc) if exc.errno is None else f"{options.file}: {reason(exc)}")
    except ValueError as exc:
        if archive is None:
            parser.error(f"argument --engine: {exc}")
        return fail(f"{options.file}: {exc}")
    finally:
        if archive is not None:
            archive.close()
    print(f"{command}ed {messages} messages of {rooms} rooms", file=sys.stderr)
    return 0


def value_of(parser: argparse.ArgumentParser, setting: Setting, flag: str | None) -> Any:  # noqa: ANN401 - as the setting's
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
    path = Path(os.path.realpath(name))
    if name == "-" or (path.exists() and not path.is_file()):
        # What is left in a buffer of sys.stdout would fail again when the process ends.
        with _opened(sys.stdout, "wb") if name == "-" else path.open("wb") as file:
            yield file
        return
    with replaced(path) as part, part.open("wb") as file:
        yield file


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, which takes its place when the block is complete."""
    part = path.with_name(f"{path.name}.part")
    # Private, as what people say is.
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield part
        os.fsync(descriptor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


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


def fail(text: str) -> int:
    """Tell in one line why a command failed. Returns the exit code 1."""
    print(" ".join(text.split()), file=sys.stderr)
    return 1
