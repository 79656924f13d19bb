"""The settings of a command, from its flags, the environment and the config file.

A value comes from the first source that has one (a list from all): the flag ``--max-message``, the
environment variable ``SYNCCHAT_MAX_MESSAGE``, the key ``max-message`` of the config file,
or the default. One converter serves all sources, and an error names the source.
"""

from __future__ import annotations

import argparse
import difflib
import enum
import itertools
import os
import re
import ssl
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, assert_never

from .._version import __version__
from ..chat.sanitize import escape
from ..net import tls_reason

__all__ = [
    "Setting",
    "Settings",
    "WrongSetting",
    "non_negative_int",
    "non_negative_number",
    "one_of",
    "port",
    "positive_int",
    "reason",
    "secret_in",
    "switch",
]

_MAX_PORT = 65535
_DIGITS = 9
#: Bits of the integers that TOML requires (TOML 1.0, "Integer").
_BITS = 64
#: Bytes of a config file or a token file, at most.
_LARGEST = 1024 * 1024

#: What the config file may have for a setting.
_KINDS = {
    "value": "a string or a number",
    "argument": "a string or a number",
    "list": "a string, or an array of strings",
    "switch": "true or false",
    "no-switch": "true or false",
}

#: Settings that say what to do with the config file, and have no key in it.
_NOT_IN_FILE = ("config", "check")

#: A token: characters that an HTTP header can carry without quoting.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class WrongSetting(ValueError):
    """A setting is wrong. The text says where it is, and what is expected."""


@dataclass(frozen=True)
class Setting:
    """A setting. ``convert`` raises :class:`ValueError` for an invalid text."""

    name: str
    #: The text for ``--help``; ``%(default)s`` stands for the default.
    help: str
    default: str | None = None
    convert: Callable[[str], object] = str
    metavar: str | None = None
    #: ``argument``: a positional argument instead of a flag. ``list``: several values, separated
    #: by commas or blanks; those of the variable and of every flag are combined. ``switch``: yes
    #: or no. ``no-switch``: a switch with a flag ``--no-NAME``.
    kind: Literal["value", "argument", "list", "switch", "no-switch"] = "value"
    #: Whether an empty environment variable counts as set.
    may_be_empty: bool = False

    @property
    def dest(self) -> str:
        """The attribute of the parsed settings."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"SYNCCHAT_{self.dest.upper()}"

    @property
    def argument(self) -> str:
        """The flag or argument, as messages name it."""
        return str(self.metavar) if self.kind == "argument" else f"--{self.name}"

    @property
    def is_switch(self) -> bool:
        """Whether the value is yes or no."""
        return self.kind in ("switch", "no-switch")


def switch(name: str, help_text: str, *, default: bool | None, negatable: bool = True) -> Setting:
    """A setting that is yes or no; if it is ``negatable``, with a flag ``--no-NAME``.

    Without a ``default``, its value may be None.
    """
    kind: Literal["switch", "no-switch"] = "no-switch" if negatable else "switch"
    text = None if default is None else "yes" if default else "no"
    return Setting(name, help_text, text, _yes_or_no, kind=kind)


class _Source(enum.IntEnum):
    """Where a value comes from; a lower source overrides a higher one."""

    FLAG = 0
    VARIABLE = 1
    FILE = 2
    DEFAULT = 3


class Settings:
    """All settings of a command, with the parser of its command line."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        groups: Mapping[str, Sequence[Setting]],
        config: Path | None = None,
    ) -> None:
        """``groups`` are the settings by their heading in ``--help``; ``""`` has none.

        ``config`` is the path of the config file, which need not exist. The setting ``config``,
        if there is one, names a file that must exist.
        """
        self._parser = parser
        self._settings = [setting for group in groups.values() for setting in group]
        self._config = config
        for title, group in groups.items():
            container = parser.add_argument_group(title) if title else parser
            for setting in group:
                _add(container.add_argument, setting)
            if not title:
                version = f"syncchat {__version__}"
                parser.add_argument("--version", action="version", version=version)

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the value of every setting, as :meth:`read`; exits if one is wrong."""
        try:
            return self.read(argv)
        except WrongSetting as exc:
            self.give_up(exc)

    def give_up(self, exc: WrongSetting) -> NoReturn:
        """Exit with the line of a wrong setting, and with the exit code of wrong usage."""
        # Backslashes stay, as in paths of Windows.
        text = "".join(each if each.isprintable() else escape(each) for each in str(exc))
        self._parser.exit(2, f"{self._parser.prog}: error: {text}\n")

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the value of every setting; ``token`` may come from ``token_file``.

        Raises :class:`WrongSetting` if the config file cannot be read, or a value that is not
        overridden is invalid. Exits with a usage error for a wrong command line.
        """
        flags = vars(self._parser.parse_args(argv))
        keys = self._read_config(flags)
        options = argparse.Namespace()
        sources: dict[str, _Source] = {}
        for setting in self._settings:
            found = list(_find(setting, flags, keys))
            value: object
            if setting.kind == "list":
                value = [
                    self._convert(setting, item, source)
                    for source, texts in reversed(found)
                    for text in texts
                    for item in re.findall(r"[^,\s]+", text) or [text]
                ]
            else:
                source, (text,) = found[0] if found else (_Source.DEFAULT, [setting.default])
                value = None if text is None else self._convert(setting, text, source)
                sources[setting.name] = source
            setattr(options, setting.dest, value)
        options.token = self._token(options.token, options.token_file, sources)
        return options

    def _read_config(self, flags: Mapping[str, Any]) -> dict[str, list[str]]:
        """The values of the config file as texts, by their keys."""
        chosen = [_find(each, flags, {}) for each in self._settings if each.name == "config"]
        for _, paths in itertools.islice(itertools.chain.from_iterable(chosen), 1):
            self._config = Path(paths[-1])
        if self._config is None:
            return {}
        try:
            keys = _parse(_read(self._config))
        except (OSError, ValueError) as exc:
            if isinstance(exc, FileNotFoundError | NotADirectoryError) and not chosen:
                return {}
            why = reason(exc) if isinstance(exc, OSError) else exc
            raise WrongSetting(f"cannot read the config file {self._config}: {why}") from None
        settings = {each.name: each for each in self._settings if each.name not in _NOT_IN_FILE}
        texts: dict[str, list[str]] = {}
        for name, value in keys.items():
            if name not in settings:
                raise WrongSetting(f"{self._config}: {_unknown(name, list(settings))}")
            try:
                texts[name] = _texts(settings[name], value)
            except ValueError as exc:
                raise WrongSetting(f"{self._config}: {name} {exc}") from None
        return texts

    def _convert(self, setting: Setting, text: str, source: _Source) -> object:
        try:
            return setting.convert(text)
        except ValueError as exc:
            if source is _Source.FILE:
                raise WrongSetting(f"{self._config}: {setting.name}: {exc}") from None
            suffix = f" (in {setting.variable})" if source is _Source.VARIABLE else ""
            raise WrongSetting(f"argument {setting.argument}: {exc}{suffix}") from None

    def _token(
        self, token: str | None, file: str | None, sources: Mapping[str, _Source]
    ) -> str | None:
        """The token; of ``token`` and ``token-file``, the one whose source overrides the other."""
        if token is not None and file is not None and sources["token"] == sources["token-file"]:
            names = {
                _Source.FLAG: "--token and --token-file",
                _Source.VARIABLE: "SYNCCHAT_TOKEN and SYNCCHAT_TOKEN_FILE",
                _Source.FILE: f"{self._config}: token and token-file",
            }[sources["token"]]
            raise WrongSetting(f"{names} are mutually exclusive")
        if file is not None and sources["token-file"] < sources["token"]:
            try:
                token = _read(Path(file)).strip()
            except (OSError, ValueError) as exc:
                why = reason(exc) if isinstance(exc, OSError) else exc
                raise WrongSetting(f"cannot read the token from {file}: {why}") from None
            _check_token(file, token)
        if token is not None and not _TOKEN.fullmatch(token):
            raise WrongSetting("the token must be printable ASCII without blanks")
        return token


def secret_in(file: str) -> str:
    """The token that a file contains. Raises :class:`ValueError`."""
    try:
        token = _read(Path(file)).strip()
    except (OSError, ValueError) as exc:
        why = reason(exc) if isinstance(exc, OSError) else exc
        raise ValueError(f"cannot read a token from {file}: {why}") from None
    _check_token(file, token)
    return token


def _read(file: Path) -> str:
    """The text of a small file. Raises :class:`OSError`, and :class:`ValueError` with the cause."""
    with file.open("rb") as stream:
        # A device has no end.
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST:,} bytes")
    try:
        # Some editors put a byte order mark at the beginning.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


def _parse(text: str) -> dict[str, Any]:
    """The keys of a config file. Raises :class:`ValueError` with the cause."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        # int() refuses more than 4,300 digits, and so does str().
        raise ValueError("a number has too many digits") from None
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _check_token(file: str, token: str) -> None:
    """Raise :class:`WrongSetting` for what a file contains instead of a token."""
    if not token:
        raise WrongSetting(f"{file} is empty: it must contain the token")
    if not _TOKEN.fullmatch(token):
        raise WrongSetting(f"the token in {file} must be printable ASCII without blanks")


def _add(add_argument: Callable[..., object], setting: Setting) -> None:
    """Add the setting's flag, without a default: the parser returns only what it was given."""
    options: dict[str, Any]
    match setting.kind:
        case "value":
            options = {"metavar": setting.metavar}
        case "argument":
            options = {"metavar": setting.metavar, "nargs": "?"}
        case "list":
            options = {"metavar": setting.metavar, "action": "append"}
        case "switch":
            options = {"action": "store_true"}
        case "no-switch":
            options = {"action": argparse.BooleanOptionalAction}
        case _:
            assert_never(setting.kind)
    name = setting.name if setting.kind == "argument" else f"--{setting.name}"
    shown = (setting.help % {"default": setting.default}).replace("%", "%%")
    add_argument(name, help=shown, default=argparse.SUPPRESS, **options)


def _find(
    setting: Setting, flags: Mapping[str, Any], keys: Mapping[str, list[str]]
) -> Iterator[tuple[_Source, list[str]]]:
    """The texts of a setting, the source with precedence first."""
    if setting.dest in flags:
        value = flags[setting.dest]
        yield _Source.FLAG, value if isinstance(value, list) else [str(value)]
    text = os.environ.get(setting.variable)
    if text or (text is not None and setting.may_be_empty):
        yield _Source.VARIABLE, [text]
    if setting.name in keys:
        yield _Source.FILE, keys[setting.name]


def _unknown(name: str, known: Sequence[str]) -> str:
    """The complaint about an unknown key, with the nearest name or else with all."""
    nearest = difflib.get_close_matches(name, known, 1)
    keys = ", ".join(known)
    hint = f"did you mean {nearest[0]}?" if nearest else f"the keys are {keys}"
    return f"unknown key {name!r}; {hint}"


def _texts(setting: Setting, value: object) -> list[str]:
    """The texts of a value of the config file. Raises :class:`ValueError`."""
    found = value if isinstance(value, list) else [value]
    if any(isinstance(each, str) and "\0" in each for each in found):
        raise ValueError("must not contain a NUL")
    if setting.kind == "list" and isinstance(value, list):
        if all(isinstance(each, str) for each in value):
            return value
    elif isinstance(value, bool) is setting.is_switch and isinstance(value, int | float | str):
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise ValueError("has too many digits")
        return [str(value)]
    raise ValueError(f"must be {_KINDS[setting.kind]}")


def reason(exc: OSError) -> str:
    """The error text of the system or of OpenSSL, without error numbers."""
    if isinstance(exc, ssl.SSLError):
        return tls_reason(exc)
    return (exc.strerror or str(exc)).lower()


# Converters.


def port(text: str) -> int:
    """A port, 0 included."""
    if _is_int(text) and int(text) <= _MAX_PORT:
        return int(text)
    raise ValueError(f"must be a port number from 0 to {_MAX_PORT}, not {_shown(text)}")


def non_negative_int(text: str) -> int:
    """An integer, 0 or more."""
    if _is_int(text):
        return int(text)
    raise ValueError(f"must be a non-negative integer, not {_shown(text)}")


def positive_int(text: str) -> int:
    """An integer, 1 or more."""
    if _is_int(text) and int(text) > 0:
        return int(text)
    raise ValueError(f"must be a positive integer, not {_shown(text)}")


def _is_int(text: str) -> bool:
    """Whether ``text`` is a decimal integer of at most ``_DIGITS`` digits."""
    # int() refuses more than 4,300 digits, with a text for programmers.
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def _shown(text: str) -> str:
    """``text`` for the message of an error; of too many digits, only their number."""
    if text.isascii() and text.isdigit() and len(text) > _DIGITS:
        return f"a number of {len(text):,} digits (at most {_DIGITS})"
    return repr(text)


def non_negative_number(text: str) -> float:
    """A finite number, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < float("inf"):
        return value
    raise ValueError(f"must be a non-negative number, not {text!r}")


def one_of(*words: str) -> Callable[[str], str]:
    """Return a converter that accepts only these words."""

    def convert(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"must be one of {', '.join(words)}, not {text!r}")

    return convert


def _yes_or_no(text: str) -> bool:
    match text.strip().lower():
        case "1" | "yes" | "true" | "on":
            return True
        case "0" | "no" | "false" | "off":
            return False
    raise ValueError(f"must be yes or no, not {text!r}")
