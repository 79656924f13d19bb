"""The client command."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import re
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from ..chat.nicks import check_nick
from ..chat.sanitize import escape
from ..client import Client
from ..client.reconnect import history_of
from ..errors import CannotConnect, HandshakeFailed, InvalidURL
from ..net import parse_url
from ..server import DEFAULT_PORT
from .settings import Setting, Settings, non_negative_int, one_of, port, reason, switch

__all__ = ["SETTINGS", "client_main", "client_parser", "complete_url", "config_file"]

_APP = "syncchat"

#: The settings. ``--help`` shows them without a heading.
SETTINGS: dict[str, list[Setting]] = {
    "": [
        Setting(
            "url",
            "address of the chat: HOST[:PORT][/ROOM], or a ws:// or wss:// URL (%(default)s)",
            "127.0.0.1",
            lambda text: complete_url(text, os.environ.get("SYNCCHAT_PORT", "")),
            "URL",
            kind="argument",
        ),
        Setting("nick", "your nick (your address)", convert=check_nick, metavar="NAME"),
        Setting(
            "history",
            "number of recent messages to show in each room (%(default)s)",
            "0",
            non_negative_int,
            "N",
        ),
        switch("reconnect", "reconnect after a break (the default)", default=True),
        switch(
            "json",
            "print events as JSON, one per line, without a prompt",
            default=False,
            negatable=False,
        ),
        switch(
            "listen",
            "read no input, and print until a signal ends the client; for services; no prompt",
            default=False,
            negatable=False,
        ),
        Setting(
            "color",
            "auto, always or never; auto follows the terminal and NO_COLOR (%(default)s)",
            "auto",
            one_of("auto", "always", "never"),
            "WHEN",
        ),
        Setting(
            "bell",
            "when to ring: off, mention (your nick, or a private message) or all (%(default)s)",
            "mention",
            one_of("off", "mention", "all"),
            "WHEN",
        ),
        switch(
            "timestamps", "show the time before each line, in a pipe with the date", default=False
        ),
        Setting(
            "prefix",
            "text to print before each message",
            "",
            metavar="TEXT",
            may_be_empty=True,
        ),
        Setting("token", "secret that the server asks for"),
        Setting("token-file", "file that contains the token", metavar="FILE"),
        Setting(
            "ca-file", "certificates to trust for wss://, instead of the system's", metavar="FILE"
        ),
    ]
}


def config_file() -> Path:
    """The path of the config file, which need not exist."""
    return platformdirs.user_config_path(_APP, appauthor=False) / "config.toml"


def client_parser(prog: str | None) -> argparse.ArgumentParser:
    """The parser of the command, without its settings."""
    return argparse.ArgumentParser(
        prog=prog,
        description="Join a chat. Leave with Ctrl+C, Ctrl+D or /quit. In a pipe, each line of"
        " input is sent as a message, and each message is printed as a line.",
        epilog="Each setting can come from an environment variable: --prefix from"
        " SYNCCHAT_PREFIX, and so on; the URL from SYNCCHAT_URL, or only its port from"
        f" SYNCCHAT_PORT. Settings in {config_file()} apply where neither is set.",
    )


def client_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/client.py [URL]``: chat at the terminal or in a pipe. Returns the exit code."""
    if sys.stderr is None:
        # The parent process closed it. print(file=None) would write to standard output.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before connecting there is nothing to clean up: let Ctrl+C end the process at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = client_parser(prog)
    options = Settings(parser, SETTINGS, config_file()).parse(argv)
    if sys.stdout is None or (sys.stdin is None and not options.listen):
        print("standard input and output must be open", file=sys.stderr)
        return 1
    try:
        context = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    except OSError as exc:
        print(f"cannot use the certificates in {options.ca_file}: {reason(exc)}", file=sys.stderr)
        return 1
    # Imported late since it is slow to import. The server command does not need it, and
    # starts in half the time without it.
    from ..terminal import (  # noqa: PLC0415
        CATCH_UP,
        Keeper,
        Preferences,
        is_interactive,
        run_pipe,
        run_screen,
    )

    at_screen = not (options.json or options.listen) and is_interactive()
    keeper = Keeper(_state_folder() / "places.sqlite", options.url)
    history = options.history
    if at_screen and (options.token or "token=" in options.url or keeper.rooms()):
        # The client shows those that the user has not seen, as far as it or the server knows.
        history = max(history, CATCH_UP)
    client = Client(
        options.url,
        nick=options.nick,
        history=history,
        reconnect=options.reconnect,
        token=options.token,
        ssl_context=context,
    )
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    failure = _failure_to_connect(client)
    if failure is not None:
        print(failure, file=sys.stderr)
        return 1
    try:
        if not at_screen:
            return run_pipe(
                client,
                options.prefix,
                as_json=options.json,
                listen=options.listen,
                timestamps=options.timestamps,
            )
        preferences = Preferences(
            options.prefix,
            options.color,
            options.bell,
            timestamps=options.timestamps,
            history=history_of(options.url, options.history),
        )
        history_file = _state_folder() / "history"
        return run_screen(client, preferences, history_file, options.token, keeper=keeper)
    except KeyboardInterrupt:
        # Ctrl+C came where run_pipe() and run_screen() do not handle it: leave anyway.
        return 1 if client.unacknowledged else 0
    finally:
        client.close(0)


def _failure_to_connect(client: Client) -> str | None:
    """Connect. Returns the error text for the user, or None on success."""
    # Without the query, which may contain a token.
    shown = escape(client.url.partition("?")[0])
    try:
        client.connect()
    except TimeoutError as exc:
        return f"cannot connect to {shown}: {exc}"
    except CannotConnect as exc:
        return str(exc)
    except HandshakeFailed as exc:
        return f"cannot join the chat at {shown}: {escape(str(exc))}"
    except (OSError, RuntimeError) as exc:
        # The process can open no more file descriptors or threads.
        return f"cannot connect to {shown}: {reason(exc) if isinstance(exc, OSError) else exc}"
    except KeyboardInterrupt:
        return f"interrupted while connecting to {shown}"
    return None


def _state_folder() -> Path:
    """The folder of the input history and of what the user has read."""
    return platformdirs.user_state_path(_APP, appauthor=False)


def complete_url(text: str, default_port: str) -> str:
    """The whole URL for ``text``, which may lack the scheme and the port.

    ``default_port`` is the text of ``SYNCCHAT_PORT``. Raises :class:`ValueError`.
    """
    url = text
    if "://" not in text:
        host = text.partition("/")[0].partition("?")[0]
        with contextlib.suppress(ValueError):
            text = text.replace(host, f"[{ipaddress.IPv6Address(host)}]", 1)
            host = "[]"
        if re.search(r":[^\]]+$", host):
            url = f"ws://{text}"
        else:
            try:
                number = port(default_port or str(DEFAULT_PORT))
            except ValueError as exc:
                raise ValueError(f"{exc} (in SYNCCHAT_PORT)") from None
            url = f"ws://{_with_port(text, number)}"
    try:
        parse_url(url)
    except InvalidURL as exc:
        # Show the text as typed, not the whole URL.
        raise ValueError(str(exc).replace(repr(url), repr(text))) from exc
    return url


def _with_port(text: str, number: int) -> str:
    end = re.search(r"[/?]|$", text)
    at = len(text) if end is None else end.start()
    return f"{text[:at]}:{number}{text[at:]}"
