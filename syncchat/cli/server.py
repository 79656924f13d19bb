"""The server command: runs a server, and does what signals ask for."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Sequence

from ..errors import CannotListen, EngineUnusable
from ..eventlog import LogWriter
from ..server import ChatServer
from .do import console_of, taken_over
from .input import StdinSpeaker
from .log_output import Diagnostics, open_log, reopen_log
from .reload import Reloader
from .server_configuration import BadCertificate, ServerConfiguration
from .server_flags import SETTINGS
from .service_manager import ServiceManager, inherited_sockets
from .settings import WrongSetting, reason
from .signals import HANGUP, REOPEN, SignalInbox, other_signals, stopping_signals, terminal
from .tuning import tune
from .workers import run_workers

__all__ = ["SETTINGS", "server_main", "server_parser"]

logger = logging.getLogger("syncchat.cli")

#: Seconds between two looks at what changes without a signal.
_PERIOD = 1.0


def server_parser(prog: str | None) -> argparse.ArgumentParser:
    """The parser of the command, without its settings."""
    return argparse.ArgumentParser(
        prog=prog,
        description="A chat server. Join it with syncchat, a browser or any WebSocket client."
        " Each path of the URL is a room of its own.",
        epilog="Each flag can be set by an environment variable: --max-message by"
        " SYNCCHAT_MAX_MESSAGE, and so on. The commands export FILE and import FILE copy the log"
        " of an engine; backup FILE, check, prune and stats look after it, while a server runs,"
        " too; people add NAME gives a person a token, and people --help tells more."
        " The command do COMMAND has a server that runs here carry out a command of operators:"
        " do kick NAME.",
    )


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a chat server until Ctrl+C or SIGTERM.

    Returns the exit code. Call it on the main thread only, since it sets signal handlers.
    """
    parser = server_parser(prog)
    try:
        configuration = ServerConfiguration(parser, argv)
    except BadCertificate as exc:
        print(exc, file=sys.stderr)
        return 1
    options = configuration.options
    if options.check:
        print("the settings are right")
        return 0
    # Before the log's thread starts, which inherits the scheduling policy.
    tune()
    manager = ServiceManager()
    try:
        output = open_log(options)
    except OSError as exc:
        print(f"cannot write the log to {options.log_file}: {reason(exc)}", file=sys.stderr)
        return 1
    try:
        sockets = inherited_sockets()
        if options.workers == 1:
            return _run_server(configuration, manager, output, sockets)
        return run_workers(configuration, manager, output, sockets)
    except (CannotListen, EngineUnusable) as exc:
        print(exc, file=sys.stderr)
        return 1


def _run_server(
    configuration: ServerConfiguration,
    manager: ServiceManager,
    output: int | None,
    sockets: list[socket.socket] | None,
) -> int:
    """Run a server in this process, with its log on the descriptor ``output``.

    Raises :class:`CannotListen` and :class:`EngineUnusable`.
    """
    options = configuration.options
    # Before the server starts: it may go meanwhile.
    at_terminal = terminal()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(
            contextlib.closing(SignalInbox(stopping_signals(), other_signals()))
        )
        log_writer = None if output is None else LogWriter(output)
        if log_writer is not None:
            stack.callback(log_writer.close)
        log = None if log_writer is None else log_writer.print
        stack.enter_context(Diagnostics(options, output, log))
        if options.take_over:
            sockets = taken_over(options.port) or sockets
        server = configuration.make(output, log=log, sockets=sockets)
        for sock in sockets or ():
            stack.enter_context(sock)
        if options.stdin is not None:
            speaker = StdinSpeaker(server, options.stdin)
        server.start()
        reloader = Reloader(configuration, server, output)

        def hand_over() -> list[socket.socket]:
            sockets = [sock.dup() for sock in server.sockets]
            signals.wake()
            return sockets

        stack.enter_context(console_of(server, reloader.reload, hand_over))
        if options.stdin is not None:
            # Ends after the server, which the input may keep waiting.
            stack.enter_context(speaker)
        try:
            manager.tell(READY=1)
            _attend(options, server, signals, reloader, manager, output, at_terminal)
            manager.tell(STOPPING=1)
        finally:
            server.stop()
    return 0


def _attend(
    options: argparse.Namespace,
    server: ChatServer,
    signals: SignalInbox,
    reloader: Reloader,
    manager: ServiceManager,
    output: int | None,
    at_terminal: int | None,
) -> None:
    """Do what signals and the passing of time ask for, until the server is to stop."""
    while True:
        due = manager.wait
        for signum in signals.wait(_PERIOD if due is None else min(due, _PERIOD)):
            if signum == HANGUP and (at_terminal is None or os.isatty(at_terminal)):
                manager.tell_reloading()
                # The log has what was wrong.
                with contextlib.suppress(WrongSetting):
                    reloader.reload()
                manager.tell(READY=1)
            elif signum == REOPEN:
                try:
                    reopen_log(options, output)
                except OSError as exc:
                    logger.warning("cannot open %s anew: %s", options.log_file, reason(exc))
            else:
                # A signal to stop, another server that takes over, or the terminal has gone.
                return
        reloader.look()
        manager.beat(server.look)
