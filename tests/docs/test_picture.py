"""The picture in the README matches the client."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, run

PICTURE = ROOT / "docs" / "session.svg"


def without_figures(svg: str) -> str:
    """The picture without measured times, which differ from run to run."""
    return re.sub(r"\| \d+ ms *", "| N ms", svg)


@pytest.mark.slow
def test_the_picture_in_the_readme_is_what_the_screen_shows(tmp_path: Path) -> None:
    new = tmp_path / "session.svg"
    result = run([sys.executable, str(ROOT / "scripts" / "picture.py"), str(new)])
    assert result.returncode == 0, result.stderr
    # If this differs, run scripts/picture.py, check the picture and commit it.
    assert without_figures(new.read_text("utf-8")) == without_figures(PICTURE.read_text("utf-8"))
    assert "docs/session.svg" in (ROOT / "README.md").read_text("utf-8")
