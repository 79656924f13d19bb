#!/usr/bin/env python3
"""The chat client, from a checkout as it is: python scripts/client.py --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

try:
    from syncchat.cli import client_main
except KeyboardInterrupt:
    sys.exit(130)
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: install syncchat first, with 'pip install .'")

if __name__ == "__main__":
    sys.exit(client_main())
