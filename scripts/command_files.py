#!/usr/bin/env python3
"""Writes the shell completions and man pages in contrib/, from the parsers behind --help.

With --check, writes nothing; the exit code is 1 if a file is out of date.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import shtab
from argparse_manpage.manpage import Manpage

from syncchat import __version__
from syncchat.cli import COMMANDS, client, server
from syncchat.cli.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
#: Where each shell looks for the completions of a command, below PREFIX/share.
FOLDERS = {
    "bash": "bash-completion/completions/{}",
    "zsh": "zsh/site-functions/_{}",
    "fish": "fish/vendor_completions.d/{}.fish",
}
ABOUT = {
    "syncchat": "join a chat from a terminal or a pipe",
    "syncchat-server": "run a chat server, and look after it",
}


def client_command() -> argparse.ArgumentParser:
    """The parser of ``syncchat``."""
    parser = client.client_parser("syncchat")
    config = str(client.config_file())
    parser.epilog = (parser.epilog or "").replace(config, "~/.config/syncchat/config.toml")
    Settings(parser, client.SETTINGS)
    return parser


def server_command() -> argparse.ArgumentParser:
    """The parser of ``syncchat-server`` with all its commands."""
    parser = server.server_parser("syncchat-server")
    Settings(parser, server.SETTINGS)

    def make(*, prog: str, **_options: object) -> argparse.ArgumentParser:
        return COMMANDS[prog.rsplit(" ", 1)[1]].parser(prog)

    commands = parser.add_subparsers(  # type: ignore[call-overload]
        prog="syncchat-server", metavar="COMMAND", title="commands", parser_class=make
    )
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.parser(name).description)
    return parser


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Let the shells complete the names of files where a file is expected."""
    for action in parser._actions:  # noqa: SLF001 - shtab wants it set on the actions
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        if isinstance(action.choices, dict):
            for each in action.choices.values():
                complete_files(each)


def files() -> Iterator[tuple[Path, str]]:
    """The files below contrib/share, and what they contain."""
    share = ROOT / "contrib" / "share"
    for name, make in (("syncchat", client_command), ("syncchat-server", server_command)):
        for shell, place in FOLDERS.items():
            parser = make()
            complete_files(parser)
            yield share / place.format(name), shtab.complete(parser, shell)
        data = {
            "project_name": "syncchat",
            "version": __version__,
            "description": ABOUT[name],
            "manual_title": "syncchat",
            "date": f"version {__version__}",
        }
        yield share / f"man/man1/{name}.1", str(Manpage(make(), data, format="pretty"))


def main() -> int:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell which are out of date")
    options = parser.parse_args()
    # Both are read by the parsers, and the texts must not depend on who runs this.
    os.environ["COLUMNS"] = "80"
    os.environ.pop("SYNCCHAT_PORT", None)
    code = 0
    for path, lines in files():
        text = "".join(f"{line.rstrip()}\n" for line in lines.splitlines())
        if options.check:
            if not path.exists() or path.read_text("utf-8") != text:
                print(f"{path.relative_to(ROOT)} is out of date: run scripts/command_files.py")
                code = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
