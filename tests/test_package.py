"""The distribution: built, installed in a clean environment, and used; its shell files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from syncchat import __version__
from tests.peer import ask_http
from tests.processes import ROOT, Script, environment

BASE = "docker.io/library/python:3.13-slim"
SHARE = ROOT / "contrib" / "share"


def shell(*command: str | Path, cwd: Path = ROOT, **changes: str) -> str:
    result = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(**changes),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_completions_and_man_pages_are_those_of_the_parsers() -> None:
    assert shell(sys.executable, "scripts/command_files.py", "--check") == ""


def test_bash_completes_commands_flags_and_nothing_twice() -> None:
    script = SHARE / "bash-completion" / "completions" / "syncchat-server"
    for words, expected in [
        ("pe", ["people"]),
        ("people ad", ["add"]),
        ("backup --en", ["--engine"]),
        ("--max-r", ["--max-rooms"]),
    ]:
        count = len(words.split())
        program = (
            f"source {script}; COMP_WORDS=(syncchat-server {words}); COMP_CWORD={count};"
            " _shtab_syncchat_server; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        assert shell("bash", "-c", program).split() == expected


def test_the_container_file_keeps_the_rules_of_hadolint() -> None:
    shell(Path(sys.executable).with_name("hadolint"), "Containerfile")
    text = (ROOT / "Containerfile").read_text("utf-8")
    assert text.count(f"\nFROM {BASE}") == 2
    for needed in ("\nUSER 2000\n", "\nHEALTHCHECK ", "COPY --from=build /app /app"):
        assert needed in text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_image_is_small_where_a_container_tool_runs() -> None:
    """Passes without one: then only the rules above are checked."""
    for tool in ("podman", "docker"):
        found = shutil.which(tool)
        if (
            found
            and not subprocess.run([found, "info"], capture_output=True, check=False).returncode
        ):
            shell(found, "build", "-q", "-t", "syncchat-test", "-f", "Containerfile", ".")
            shell(found, "pull", "-q", BASE)
            sizes = [
                int(shell(found, "image", "inspect", "-f", "{{.Size}}", image))
                for image in ("syncchat-test", BASE)
            ]
            assert sizes[0] - sizes[1] < 80_000_000
            assert shell(found, "run", "--rm", "syncchat-test", "--version")


def test_a_release_is_refused_unless_everything_is_committed_and_described(
    tmp_path: Path,
) -> None:
    """In a copy of the few files that it reads, as a repository of its own."""
    for name in ("syncchat/_version.py", "CHANGELOG.md", "scripts/release.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    def git(*words: str) -> None:
        identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
        shell("git", *identity, *words, cwd=tmp_path)

    def refused() -> str:
        command = [sys.executable, "scripts/release.py", "--tag"]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment()
        )
        assert (result.returncode, result.stdout) == (1, "")
        return result.stderr

    git("init", "-q")
    assert refused() == "there are changes that are not committed\n"
    git("add", ".")
    git("commit", "-qm", "first")
    assert refused() == f"CHANGELOG.md has no heading '## [{__version__}] - YYYY-MM-DD'\n"
    git("tag", f"v{__version__}")
    assert "is tagged already" in refused()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_and_an_editable_installation_serve_from_a_clean_environment(
    tmp_path: Path,
) -> None:
    """One environment for all, since making it takes most of the time."""
    source = tmp_path / "source"
    made = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "__pycache__", "*.egg-info", "*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, source, ignore=made, symlinks=True)
    shell(sys.executable, "-m", "build", "--no-isolation", source, cwd=tmp_path)
    (wheel,) = (source / "dist").glob("*.whl")
    (sdist,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        inside = {name.partition("/")[2] for name in packed.getnames()}
    # What the commands of the README need, and their tests.
    assert {
        ".ci/run",
        ".ci/beside",
        ".containerignore",
        "scripts/server.py",
        "scripts/client.py",
        "tests/conftest.py",
        "tests/client/vectors.json",
        "docs/session.svg",
        "contrib/share/man/man1/syncchat.1",
        "syncchat/web/page/index.html",
        "LICENSE",
    } <= inside

    there = tmp_path / "env"
    shell(sys.executable, "-m", "venv", there)
    shell(there / "bin" / "pip", "install", "-q", wheel, cwd=tmp_path)
    for path in SHARE.rglob("*"):
        if path.is_file():
            assert (there / "share" / path.relative_to(SHARE)).is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    talk(there, elsewhere)

    shell(there / "bin" / "pip", "install", "-q", "--no-deps", "-e", source, cwd=tmp_path)
    talk(there, elsewhere)
    (elsewhere / "program.py").write_text("import syncchat\n\nprint(syncchat.ChatServer)\n")
    checked = shell(
        *(sys.executable, "-m", "mypy", "--strict", "--python-executable", there / "bin/python"),
        *("--follow-imports=skip", "--cache-dir=/dev/null", "program.py"),
        cwd=elsewhere,
    )
    assert checked == "Success: no issues found in 1 source file\n"


def talk(there: Path, elsewhere: Path) -> None:
    """Start the installed server, see its page, and send a message with the installed client."""
    python = str(there / "bin" / "python")
    assert shell(there / "bin" / "syncchat", "--version", cwd=elsewhere).startswith("syncchat ")
    program = (
        "import os, sys; os.chdir(sys.argv.pop(1));"
        " import syncchat.cli; sys.exit(syncchat.cli.main(sys.argv[1:]))"
    )
    with Script([python, "-Pc", program, str(elsewhere), "server", "--port", "0"]) as server:
        port = server.wait_for_line(r"listening on port \d+").rsplit(" ", 1)[1]
        status, _, page = ask_http(int(port), "/")
        assert (status, b"<html" in page) == (200, True)
        ending = subprocess.run(
            [python, "-m", "syncchat", "client", f"127.0.0.1:{port}"],
            input="hello\n",
            capture_output=True,
            text=True,
            check=True,
            cwd=elsewhere,
            env=environment(),
        )
        assert "hello" in ending.stdout
        server.wait_for_line("Received from .*: hello")
