"""Settings from a file in the user's config folder. Flags and environment override them."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path

import platformdirs

from .flags import Sourced

__all__ = ["apply_config", "config_file", "typed_file"]

_APP = "syncchat"


def config_file() -> Path:
    """The path of the settings file, which need not exist."""
    return platformdirs.user_config_path(_APP, appauthor=False) / "config.toml"


def typed_file() -> Path:
    """The path of the file with the input history."""
    return platformdirs.user_state_path(_APP, appauthor=False) / "history"


def apply_config(parser: argparse.ArgumentParser, path: Path) -> None:
    """Set the parser's defaults from the TOML file at ``path``; a setting has its flag's name.

    An environment variable overrides the file. Exits with a usage error if the file
    cannot be read, or has an unknown setting or a value of the wrong type.
    """
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        parser.error(f"cannot read the settings in {path}: {why}")
    actions = {
        action.dest.replace("_", "-"): action
        for action in parser._actions  # noqa: SLF001 - there is no public list
        if action.dest not in ("help", "version")
    }
    for name, value in settings.items():
        action = actions.get(name)
        if action is None:
            parser.error(f"{path}: there is no setting {name!r}; there are {', '.join(actions)}")
        if os.environ.get(f"SYNCCHAT_{action.dest.upper()}"):
            continue
        is_switch = action.nargs == 0
        if isinstance(value, bool) is not is_switch or not isinstance(value, bool | int | str):
            kind = "true or false" if is_switch else "a text or a number"
            parser.error(f"{path}: {name} must be {kind}")
        action.default = value if is_switch else Sourced(str(value), str(path))
