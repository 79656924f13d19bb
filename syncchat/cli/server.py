"""The server command: its settings, signals and process tuning."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType

from ..errors import CannotListen, EngineUnusable
from ..eventlog import LogWriter
from ..net import listen_for_each
from .do import console_of
from .input import StdinSpeaker
from .server_configuration import BadCertificate, ServerConfiguration
from .server_flags import SETTINGS
from .settings import WrongSetting
from .tuning import tune
from .workers import run_workers

__all__ = ["SETTINGS", "server_main"]


def server_main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """``scripts/server.py``: run a chat server until Ctrl+C, SIGTERM or SIGHUP.

    Returns the exit code. Call it on the main thread only, since it sets signal handlers.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="A chat server. Join it with scripts/client.py or any WebSocket client."
        " Each path of the URL is a room of its own.",
        epilog="Each flag can be set by an environment variable: --max-message by"
        " SYNCCHAT_MAX_MESSAGE, and so on. The commands export FILE and import FILE copy the log"
        " of an engine; people add NAME gives a person a token, and people --help tells more."
        " The command do COMMAND has a server that runs here carry out a command of operators:"
        " do kick NAME.",
    )
    try:
        configuration = ServerConfiguration(parser, argv)
    except BadCertificate as exc:
        print(exc, file=sys.stderr)
        return 1
    except WrongSetting as exc:
        parser.error(str(exc))
    options = configuration.options
    if options.check:
        print("the settings are right")
        return 0
    # Before the log's thread starts, which inherits the scheduling policy.
    tune()
    # If the parent process closed standard output, there is no log.
    output = None if options.quiet or sys.stdout is None else sys.stdout.fileno()
    if options.workers == 1:
        return _run_server(configuration, output)
    listen = partial(listen_for_each, options.workers, options.host, options.port)
    return run_workers(options.workers, listen, configuration.make, _stopping_signals(), output)


def _run_server(configuration: ServerConfiguration, output: int | None) -> int:
    """Run a server in this process, with its log on the descriptor ``output``."""
    log_writer = None if output is None else LogWriter(output)
    log = None if log_writer is None else log_writer.print
    server = configuration.make(log=log)
    options = configuration.options

    def stop(signum: int, _frame: FrameType | None) -> None:
        # A second signal ends the process at once.
        signal.signal(signum, signal.SIG_DFL)
        server.request_stop()

    for signum in _stopping_signals():
        signal.signal(signum, stop)
    try:
        with contextlib.ExitStack() as stack:
            server.start()
            stack.enter_context(console_of(server))
            if options.stdin is not None:
                # Ends after the server, which the input may keep waiting.
                stack.enter_context(StdinSpeaker(server, options.stdin))
            server.serve_forever()
    except (CannotListen, EngineUnusable) as exc:
        print(exc, file=sys.stderr)
        return 1
    finally:
        if log_writer is not None:
            log_writer.close()
    return 0


def _stopping_signals() -> list[signal.Signals]:
    """The signals that stop the server in an orderly way."""
    signals = [signal.SIGINT, signal.SIGTERM]
    # Windows has no SIGHUP, and nohup makes the process ignore it.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signals.append(hangup)
    return signals
