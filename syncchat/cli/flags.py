"""Flags, their environment variables, and the converters that both commands share."""

from __future__ import annotations

import argparse
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from ..chat.nicks import check_nick
from ..engine import Retention, check_engine
from ..net import parse_network, parse_origin, parse_public_url, tls_reason

__all__ = [
    "Sourced",
    "add_flag",
    "add_list",
    "add_switch",
    "count",
    "engine",
    "environment",
    "host",
    "keep",
    "naming_source",
    "network",
    "nick",
    "one_of",
    "origin",
    "port",
    "positive",
    "public_url",
    "read_secret",
    "reason",
    "seconds",
]

_MAX_PORT = 65535
_DIGITS = 9

#: Characters that an HTTP header can carry without quoting.
_TOKEN = re.compile(r"[\x21-\x7e]+")

_KEEP = re.compile(r"([0-9]{1,9})([smhdw]?)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

_MAY_BE_EMPTY = frozenset({"GREETING", "PREFIX"})


class Sourced(str):
    """A setting that did not come from a flag. Error messages name its source."""

    __slots__ = ("source",)

    def __new__(cls, text: str, source: str) -> Self:
        """``source`` is the name of an environment variable or the path of a file."""
        sourced = super().__new__(cls, text)
        sourced.source = source
        return sourced

    source: str


def environment(name: str, default: str | None) -> str | None:
    """The environment variable ``SYNCCHAT_NAME``, which argparse then checks like a flag.

    Returns ``default`` if it is not set, or empty, unless the setting may be empty.
    """
    variable = f"SYNCCHAT_{name}"
    value = os.environ.get(variable)
    if value is None or (not value and name not in _MAY_BE_EMPTY):
        return default
    return Sourced(value, variable)


_T = TypeVar("_T")


def naming_source(convert: Callable[[str], _T]) -> Callable[[str], _T]:
    """Wrap ``convert``: its errors name the source of a value that came from no flag."""

    def converted(text: str) -> _T:
        try:
            return convert(text)
        except argparse.ArgumentTypeError as exc:
            if isinstance(text, Sourced):
                raise argparse.ArgumentTypeError(f"{exc} (in {text.source})") from None
            raise

    return converted


def _as_it_is(text: str) -> str:
    # Not str(): it would drop the source of a Sourced.
    return text


def add_flag(
    parser: argparse._ActionsContainer,
    flag: str,
    default: str | None,
    help_text: str,
    convert: Callable[[str], Any] = _as_it_is,
    metavar: str | None = None,
) -> None:
    """Add ``--flag``, with the variable ``SYNCCHAT_FLAG`` as its default if it is set."""
    parser.add_argument(
        f"--{flag}",
        type=naming_source(convert),
        metavar=metavar,
        default=environment(flag.upper().replace("-", "_"), default),
        help=help_text,
    )


def add_list(
    parser: argparse.ArgumentParser,
    group: argparse._ActionsContainer,
    flag: str,
    help_text: str,
    convert: Callable[[str], Any],
    metavar: str,
) -> None:
    """Add ``--flag`` for a list of values to a group of the parser.

    Commas and blanks separate values. Those of ``SYNCCHAT_FLAG`` and of every
    ``--flag`` are combined. Exits with a usage error if the variable has a wrong value.
    """
    convert_one = naming_source(convert)

    def converted(text: str) -> list[Any]:
        items = re.findall(r"[^,\s]+", text) or [text]
        if isinstance(text, Sourced):
            items = [Sourced(item, text.source) for item in items]
        return [convert_one(item) for item in items]

    text = environment(flag.upper().replace("-", "_"), None)
    try:
        default = [] if text is None else converted(text)
    except argparse.ArgumentTypeError as exc:
        parser.error(f"argument --{flag}: {exc}")
    group.add_argument(
        f"--{flag}",
        action="extend",
        type=converted,
        default=default,
        metavar=metavar,
        help=help_text,
    )


def add_switch(
    parser: argparse.ArgumentParser,
    flag: str,
    help_text: str,
    action: str | type[argparse.Action],
    *,
    default: bool,
) -> None:
    """Add a switch. Exits with a usage error if its variable is neither yes nor no."""
    name = flag.upper().replace("-", "_")
    word = (environment(name, "") or "").strip().lower()
    if word in ("1", "yes", "true", "on"):
        default = True
    elif word in ("0", "no", "false", "off"):
        default = False
    elif word:
        parser.error(f"SYNCCHAT_{name}: {word!r} is neither yes nor no")
    parser.add_argument(f"--{flag}", action=action, default=default, help=help_text)


def engine(text: str) -> str:
    """Convert to the name of an engine."""
    try:
        check_engine(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return text


def keep(text: str) -> Retention:
    """Convert to a retention: a number of messages, ``1000``, or a time, ``30d``."""
    found = _KEEP.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of messages, like 1000, nor a time, like 90s, 12h or 30d"
        )
    number, unit = int(found[1]), found[2]
    return Retention(seconds=number * _UNITS[unit]) if unit else Retention(messages=number)


def host(text: str) -> str:
    """Convert to a host. Refuses an empty one, which would mean all interfaces."""
    if text:
        return text
    raise argparse.ArgumentTypeError("it is empty; 0.0.0.0 is the whole network")


def _converter(
    parse: Callable[[str], _T], refusal: type[Exception] = ValueError
) -> Callable[[str], _T]:
    """``parse`` as argparse wants it: the text of a ``refusal`` becomes the usage error."""

    def convert(text: str) -> _T:
        try:
            return parse(text)
        except refusal as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return convert


#: Converts to a nick.
nick = _converter(check_nick)
#: Converts to the origin of web pages.
origin = _converter(parse_origin)
#: Converts to the public URL of a server.
public_url = _converter(parse_public_url)
#: Converts to an IP address or a network.
network = _converter(lambda text: str(parse_network(text)))


def port(text: str) -> int:
    """Convert to a port, 0 included."""
    if text.isascii() and text.isdigit() and int(text) <= _MAX_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: it is a number from 0 to {_MAX_PORT}")


def count(text: str) -> int:
    """Convert to a whole number, 0 included."""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")


def one_of(*words: str) -> Callable[[str], str]:
    """Return a converter that accepts only these words."""

    def convert(text: str) -> str:
        if text in words:
            return text
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")

    return convert


def positive(text: str) -> int:
    """Convert to a whole number, 1 or more."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")


def seconds(text: str) -> float:
    """Convert to a finite number of seconds, or of another unit, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < float("inf"):
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")


def read_secret(parser: argparse.ArgumentParser, text: str | None, file: str | None) -> str | None:
    """The token, given as ``text`` or in ``file``. Exits with a usage error if it is invalid.

    If both are given, a flag overrides an environment variable, which overrides the settings
    file. It is a usage error if both come from the same of these.
    """
    if text is not None and file is not None:
        if _distance(text) == _distance(file):
            parser.error(_both_tokens(text))
        if _distance(file) < _distance(text):
            text = None
    if text is None and file is not None:
        try:
            text = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
            parser.error(f"cannot read the token from {file}: {reason}")
    if text is not None and not _TOKEN.fullmatch(text):
        parser.error("the token must be of printable ASCII characters without blanks")
    return text


def _both_tokens(text: str) -> str:
    """The error text if the token and its file come from the same source, that of ``text``."""
    names = "--token and --token-file"
    if _distance(text) == 1:
        names = "SYNCCHAT_TOKEN and SYNCCHAT_TOKEN_FILE"
    elif isinstance(text, Sourced):
        names = f"{text.source}: token and token-file"
    return f"{names} exclude each other: give one of them"


def _distance(text: str) -> int:
    # 0: from a flag; 1: from an environment variable; 2: from the settings file.
    if not isinstance(text, Sourced):
        return 0
    return 1 if text.source in os.environ else 2


def reason(exc: OSError) -> str:
    """The error text of the system or of OpenSSL, without error numbers."""
    if isinstance(exc, ssl.SSLError):
        return tls_reason(exc)
    return (exc.strerror or str(exc)).lower()
