#!/usr/bin/env python3
"""Runs the chat client from a checkout without installation: python scripts/client.py --help."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # During the imports, Ctrl+C simply ends the process. The client sets its own handler later.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    from syncchat.cli import client_main
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: install syncchat first, with 'pip install .'")

if __name__ == "__main__":
    sys.exit(client_main())
