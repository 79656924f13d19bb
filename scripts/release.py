#!/usr/bin/env python3
"""Makes a release of what is committed: checks, builds, tags. Uploads only with --upload.

The version is that of syncchat/_version.py; CHANGELOG.md must have a heading for it, such as
"## [0.1.0] - 2026-12-01". CI (.ci/run) must have passed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"


class Refused(Exception):
    """There can be no release; the text says why."""


def run(*command: str) -> str:
    """Run a command at the top of the checkout. Returns what it prints."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Refused(f"{' '.join(command)}:\n{result.stdout}{result.stderr}".rstrip())
    return result.stdout


def version_to_release() -> str:
    """The version, of a checkout that can be released."""
    text = (ROOT / "syncchat" / "_version.py").read_text("utf-8")
    version: str
    (version,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if run("git", "status", "--porcelain"):
        raise Refused("there are changes that are not committed")
    if run("git", "tag", "--list", f"v{version}"):
        raise Refused(f"v{version} is tagged already: raise the version in syncchat/_version.py")
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heading = rf"^## \[{re.escape(version)}\] - [0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}$"
    if not re.search(heading, changes, re.MULTILINE):
        raise Refused(f"CHANGELOG.md has no heading '## [{version}] - YYYY-MM-DD'")
    return version


def release(*, tag: bool, upload: bool) -> None:
    """Check and build; then tag and upload what is asked for."""
    version = version_to_release()
    python = sys.executable
    run(python, "scripts/command_files.py", "--check")
    run(python, "-m", "build", "--outdir", str(DIST))
    built = [str(path) for path in sorted(DIST.glob(f"syncchat-{version}[.-]*"))]
    if len(built) != 2:
        raise Refused(f"dist has other files of this version: {' '.join(built)}")
    print("\n".join(built))
    if tag:
        run("git", "tag", "--annotate", f"v{version}", "--message", f"syncchat {version}")
        print(f"tagged v{version}; push it with: git push origin v{version}")
    if upload:
        run(python, "-m", "twine", "upload", *built)
        print("uploaded")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", action="store_true", help="tag the commit")
    parser.add_argument(
        "--upload", action="store_true", help="upload to PyPI; needs twine and its credentials"
    )
    options = parser.parse_args()
    try:
        release(tag=options.tag, upload=options.upload)
    except Refused as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
