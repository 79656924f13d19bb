#!/usr/bin/env python3
"""The torture test: python scripts/torture.py --help, and docs/torture.md."""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

try:
    # The package of the same name, beside this file.
    from torture.command import main
except ModuleNotFoundError as exc:
    sys.exit(f"The module {exc.name!r} is missing: install it with 'pip install .[bench,redis]'")

if __name__ == "__main__":
    sys.exit(main())
