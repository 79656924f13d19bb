"""Every code block of README.md and docs/ that is Python or shell runs as it stands.

Each runs in a fresh process and in a temporary directory. Words behind the language, which no
reader sees, say what a block needs:

- ``server``: a chat server runs meanwhile.
- ``forever``: the block does not end by itself. It is stopped when it listens, or has connected
  to the ``server``, and when the ``then`` blocks below it have run.
- ``then``: the block runs together with the block above it.
- ``output`` (of a ``text`` block): what the blocks above it print.
- ``pytest``: the block is a file of tests.
- ``tk``: the block opens a window. It runs under Xvfb; without ``xvfb-run``, or Tk in this
  Python, it is only compiled.
- ``ci``: .ci/run runs the block, because it installs from the network.

``console`` transcripts and other languages are not run. The documents use fixed ports and host
names, which must not collide with real ones: ``as_run`` replaces them, and changes nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest
import trustme

from tests.documents import DOCUMENTS, README, Block, blocks_of
from tests.peer import PATIENCE, wait_for
from tests.processes import ROOT, ServerScript, environment

#: The ports of the documents: the chat's, and a web framework's.
PORTS = (2000, 5000)

#: Maximum seconds for a block.
LIMIT = 60.0

WORDS = {"server", "forever", "then", "output", "pytest", "tk", "ci", "events"}


@dataclass
class Example:
    """A block, the blocks that run together with it, and their output."""

    block: Block
    then: list[Block] = field(default_factory=list)
    output: str | None = None

    def __str__(self) -> str:
        return self.block.place


def examples_of(path: Path) -> list[Example]:
    """The blocks that run, in groups."""
    found: list[Example] = []
    for block in blocks_of(path):
        if block.language in ("python", "sh") and "ci" not in block.words:
            if "then" in block.words:
                found[-1].then.append(block)
            else:
                found.append(Example(block))
        elif "output" in block.words:
            found[-1].output = block.text
    return found


EXAMPLES = [example for path in DOCUMENTS for example in examples_of(path)]


def as_run(text: str, ports: Mapping[int, int]) -> str:
    """``text`` with the ports and hosts of this run; blocks are changed only here."""
    for paper, port in ports.items():
        text = re.sub(rf"\b{paper}\b", str(port), text)
    return text.replace("chat.example.org", "localhost").replace("0.0.0.0", "127.0.0.1")


@contextmanager
def reserved_port() -> Iterator[int]:
    """A reserved port on which a server that allows address reuse can listen."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


class Place:
    """A directory for the examples: commands, a token, a certificate, a log."""

    def __init__(self, folder: Path, ports: Mapping[int, int]) -> None:
        self.folder = folder
        self._ports = ports
        (folder / "scripts").symlink_to(ROOT / "scripts")
        for name, command in [
            (".venv/bin/python", ""),
            ("bin/python", ""),
            ("bin/python3", ""),
            ("bin/syncchat", str(ROOT / "scripts" / "client.py")),
            ("bin/syncchat-server", str(ROOT / "scripts" / "server.py")),
        ]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            path.chmod(0o755)
        (folder / "token").write_text("s3cret\n")
        (folder / "app.log").write_text("started\n")
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        self._environment = environment(
            PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
            PYTHONPATH=str(ROOT),
            SSL_CERT_FILE=str(folder / "ca.pem"),
            # For commands without a port.
            SYNCCHAT_PORT=str(ports[PORTS[0]]),
        )

    def command(self, block: Block) -> list[str]:
        text = as_run(block.text, self._ports)
        if block.language == "sh":
            return ["bash", "-euo", "pipefail", "-c", text]
        name = "test_example.py" if "pytest" in block.words else "example.py"
        path = self.folder / name
        path.write_text(text, "utf-8")
        if "pytest" in block.words:
            return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
        command = [sys.executable, str(path)]
        return ["xvfb-run", "-a", *command] if "tk" in block.words else command

    @contextmanager
    def running(self, block: Block) -> Iterator[Run]:
        """Run the block in a process group, which is ended afterwards."""
        number = len(list(self.folder.glob("*.out")))
        outputs = [self.folder / f"{number}.out", self.folder / f"{number}.err"]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in outputs]
            process = subprocess.Popen(
                self.command(block),
                stdin=subprocess.DEVNULL,
                stdout=files[0],
                stderr=files[1],
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )
            run = Run(block, process, *outputs)
            try:
                yield run
            finally:
                run.end(signal.SIGKILL)

    def output_of(self, block: Block) -> str:
        """Run the block to its end."""
        with self.running(block) as run:
            code = run.wait()
            assert code == 0, (run.block.place, code, run.text(), run.errors())
            assert "Traceback" not in run.errors(), run.errors()
            return run.text()


@dataclass
class Run:
    block: Block
    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def text(self) -> str:
        return self.out.read_text("utf-8")

    def errors(self) -> str:
        return self.err.read_text("utf-8")

    def wait(self) -> int:
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.block.place} does not end: {self.text()!r} {self.errors()!r}")

    def check_alive(self) -> None:
        assert self.process.poll() is None, (self.block.place, self.text(), self.errors())

    def end(self, number: signal.Signals) -> None:
        """Signal the whole group, and wait for its first process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(LIMIT)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_until_ready(run: Run, server: ServerScript | None, ports: Mapping[int, int]) -> None:
    """Return when the block has connected to the server, says that it listens, or listens."""
    named = [port for paper, port in ports.items() if str(paper) in run.block.text]

    def ready() -> bool:
        run.check_alive()
        if run.block.language == "sh":
            return "listening on port" in run.text()
        return all(map(listens, named))

    if server is not None:
        server.wait_for_line("New connection from .*")
        run.check_alive()
    else:
        wait_for(ready, run.block.place)


def needs(example: Example) -> None:
    """Skip an example on a machine without the programs that it uses."""
    texts = [block.text for block in (example.block, *example.then)]
    if any("flask" in text for text in texts):
        pytest.importorskip("flask")
    for tool in ("curl", "jq", "sqlite3", "openssl"):
        if shutil.which(tool) is None and any(re.search(rf"\b{tool} ", text) for text in texts):
            pytest.skip(f"needs {tool}")


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_every_code_block_runs(example: Example, tmp_path: Path) -> None:
    block = example.block
    needs(example)
    if "tk" in block.words and not (shutil.which("xvfb-run") and find_spec("_tkinter")):
        compile(block.text, block.place, "exec")
        return
    with ExitStack() as stack:
        server = stack.enter_context(ServerScript()) if "server" in block.words else None
        ports = {paper: stack.enter_context(reserved_port()) for paper in PORTS}
        if server is not None:
            ports[PORTS[0]] = server.port
        place = Place(tmp_path, ports)
        if "forever" not in block.words:
            printed = place.output_of(block)
            printed += "".join(place.output_of(other) for other in example.then)
        else:
            run = stack.enter_context(place.running(block))
            wait_until_ready(run, server, ports)
            printed = "".join(place.output_of(other) for other in example.then)
            run.check_alive()
            run.end(signal.SIGTERM)
            assert "Traceback" not in run.errors(), run.errors()
    if example.output is not None:
        assert printed.rstrip() == as_run(example.output, ports).rstrip()


def test_every_marker_of_a_code_block_is_known() -> None:
    for path in DOCUMENTS:
        for block in blocks_of(path):
            assert block.words <= WORDS, block.place


def test_the_commands_of_the_readme_are_those_of_ci() -> None:
    script = "".join((ROOT / ".ci" / name).read_text("utf-8") for name in ("run", "beside"))
    patterns = re.findall(r"grep -E '([^']+)' README.md", script)
    readme = README.read_text("utf-8")
    blocks = [block for block in blocks_of(README) if "ci" in block.words]
    assert len(blocks) == len(patterns) == 2
    for block in blocks:
        (line,) = block.text.splitlines()
        (pattern,) = (each for each in patterns if re.fullmatch(each, line))
        assert re.findall(pattern, readme, re.MULTILINE) == [line]
