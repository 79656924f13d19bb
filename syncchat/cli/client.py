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

from .._version import __version__
from ..chat.sanitize import escape
from ..client import Client
from ..errors import CannotConnect, HandshakeFailed, InvalidURL
from ..net import parse_url
from ..server import DEFAULT_PORT
from .config import apply_config, config_file, typed_file
from .flags import (
    add_flag,
    add_switch,
    count,
    environment,
    naming_source,
    nick,
    one_of,
    port,
    read_secret,
    reason,
)

__all__ = ["client_main"]


def client_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/client.py [URL]``: chat at the terminal or in a pipe. Returns the exit code."""
    if sys.stderr is None:
        # The parent process closed it. print(file=None) would write to standard output.
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Before connecting there is nothing to clean up: let Ctrl+C end the process at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = _client_parser(prog)
    if not {"-h", "--help", "--version"}.intersection(sys.argv[1:] if argv is None else argv):
        apply_config(parser, config_file())
    options = parser.parse_args(argv)
    if sys.stdout is None or (sys.stdin is None and not options.listen):
        print("standard input and output must be open", file=sys.stderr)
        return 1
    token = read_secret(parser, options.token, options.token_file)
    try:
        context = ssl.create_default_context(cafile=options.ca_file) if options.ca_file else None
    except OSError as exc:
        print(f"cannot use the certificates in {options.ca_file}: {reason(exc)}", file=sys.stderr)
        return 1
    client = Client(
        options.url,
        nick=options.nick,
        history=options.history,
        reconnect=options.reconnect,
        token=token,
        ssl_context=context,
    )
    # Imported late since it is slow to import. The server command does not need it, and
    # starts in half the time without it.
    from ..terminal import Preferences, is_interactive, run_pipe, run_screen  # noqa: PLC0415

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    failure = _failure_to_connect(client)
    if failure is not None:
        print(failure, file=sys.stderr)
        return 1
    try:
        if options.json or options.listen or not is_interactive():
            return run_pipe(client, options.prefix, as_json=options.json, listen=options.listen)
        preferences = Preferences(
            options.prefix, options.color, options.bell, timestamps=options.timestamps
        )
        return run_screen(client, preferences, typed_file(), token)
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
        return f"gave up connecting to {shown}"
    return None


def _client_parser(prog: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Join a chat. Ctrl+C, Ctrl+D or /quit leaves. In a pipe, each line of the"
        " input is sent, and each message is printed as a line.",
        epilog="Each setting can come from an environment variable: --prefix from"
        " SYNCCHAT_PREFIX, and so on; the URL from SYNCCHAT_URL, or only its port from"
        f" SYNCCHAT_PORT. What is set in neither way may stand in {config_file()}.",
    )
    default_port = environment("PORT", str(DEFAULT_PORT)) or ""
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        type=naming_source(lambda text: _url(text, default_port)),
        default=environment("URL", "127.0.0.1"),
        help="where the chat is, HOST[:PORT][/ROOM] or a whole URL, ws:// or wss:// (%(default)s)",
    )
    add_flag(parser, "nick", None, "what to be called (your address)", nick, "NAME")
    add_flag(parser, "history", "0", "how many of the last messages to show first (0)", count, "N")
    add_switch(
        parser,
        "reconnect",
        "come back after a break (the default)",
        argparse.BooleanOptionalAction,
        default=True,
    )
    add_switch(
        parser, "json", "print events, one a line, as JSON; no prompt", "store_true", default=False
    )
    add_switch(
        parser,
        "listen",
        "read no input, and print until a signal ends it: for a service; no prompt",
        "store_true",
        default=False,
    )
    add_flag(
        parser,
        "color",
        "auto",
        "auto, always or never; auto heeds NO_COLOR (%(default)s)",
        one_of("auto", "always", "never"),
        "WHEN",
    )
    add_flag(
        parser,
        "bell",
        "mention",
        "ring at off, mention (of your nick, and private messages) or all (%(default)s)",
        one_of("off", "mention", "all"),
        "WHEN",
    )
    add_switch(
        parser,
        "timestamps",
        "begin lines with the time",
        argparse.BooleanOptionalAction,
        default=False,
    )
    add_flag(parser, "prefix", "", "what to print before each message", metavar="TEXT")
    add_flag(parser, "token", None, "the secret that the server asks for")
    add_flag(parser, "token-file", None, "the file that it stands in", metavar="FILE")
    add_flag(
        parser,
        "ca-file",
        None,
        "certificates to trust instead of the system's, for wss://",
        metavar="FILE",
    )
    parser.add_argument("--version", action="version", version=f"syncchat {__version__}")
    return parser


def _url(text: str, default_port: str) -> str:
    """The whole URL for ``text``, which may lack the scheme and the port."""
    url = text
    if "://" not in text:
        host = text.partition("/")[0].partition("?")[0]
        with contextlib.suppress(ValueError):
            text = text.replace(host, f"[{ipaddress.IPv6Address(host)}]", 1)
            host = "[]"
        has_port = re.search(r":[^\]]+$", host)
        if not has_port:
            naming_source(port)(default_port)
        url = "ws://" + (text if has_port else _with_port(text, default_port))
    try:
        parse_url(url)
    except InvalidURL as exc:
        # Show the text as typed, not the whole URL.
        raise argparse.ArgumentTypeError(str(exc).replace(repr(url), repr(text))) from exc
    return url


def _with_port(text: str, number: str) -> str:
    end = re.search(r"[/?]|$", text)
    at = len(text) if end is None else end.start()
    return f"{text[:at]}:{number}{text[at:]}"
