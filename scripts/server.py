#!/usr/bin/env python3
"""Runs the chat server from a checkout without installation: python scripts/server.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    from syncchat.cli import server_main
except KeyboardInterrupt:
    sys.exit(130)
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: install syncchat first, with 'pip install .'")

if __name__ == "__main__":
    sys.exit(server_main())
