"""The tests of the torture test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tests.processes import ROOT


@contextlib.contextmanager
def scripts() -> Iterator[None]:
    """Imports in the block may come from the folder of the scripts."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield
