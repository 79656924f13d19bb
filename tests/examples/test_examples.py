"""Every example of scripts/examples/ does what it says: in gunicorn, in a browser, on a display."""

from __future__ import annotations

import json
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import redis
import requests

from syncchat import ChatServer, Client
from syncchat.chat.events import Message, Private, PrivateMessage, Welcome
from syncchat.net import connect
from tests.peer import PATIENCE, free_port, wait_for
from tests.people import Plain, messages, until, url_of
from tests.processes import ROOT, environment
from tests.redis_server import RedisProcess
from tests.windows import window

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = ROOT / "scripts" / "examples"


@contextmanager
def running(command: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example until the end of the block, which ends it with SIGINT."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=EXAMPLES,
        env=environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", **variables),
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *arguments]


def done(command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=EXAMPLES,
        env=environment(PYTHONPATH=str(ROOT), **variables),
        timeout=2 * PATIENCE,
        check=False,
    )


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def server(port: int = 0) -> ChatServer:
    return ChatServer(port=port, greeting="", notices=False, rate=0)


def test_every_example_is_short_and_in_the_documents() -> None:
    text = (ROOT / "docs" / "embedding.md").read_text("utf-8")
    paths = [path for path in EXAMPLES.iterdir() if path.is_file()]
    assert len(paths) >= 9
    for path in paths:
        assert len(path.read_text("utf-8").splitlines()) <= 80, path.name
        assert f"`scripts/examples/{path.name}`" in text, path.name


@pytest.mark.slow
def test_the_flask_dashboard_shows_live_numbers_in_gunicorn(browser: Browser) -> None:
    port = free_port()
    gunicorn = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "20"]
    with running([*gunicorn, "--bind", f"127.0.0.1:{port}", "flask_dashboard:app"]):
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(url))
        with window(browser, url, None) as ann, window(browser, url, None) as bob:
            for page in (ann, bob):
                page.locator("#orders", has_text="0").wait_for()
            assert requests.post(f"{url}/orders", {"item": "tea"}, timeout=PATIENCE).ok
            for page in (ann, bob):
                page.locator("#orders", has_text="1").wait_for()
                page.locator("#pages", has_text="2").wait_for()
                assert float(page.locator("#load").text_content() or "") >= 0


@pytest.mark.slow
def test_the_django_site_has_a_chat(browser: Browser) -> None:
    port = free_port()
    with running(python("django_chat.py", str(port))):
        url = f"http://127.0.0.1:{port}/talk/garden"
        wait_for(lambda: answers(url))
        with (
            window(browser, url, None) as ann,
            Plain(f"ws://127.0.0.1:{port}/garden?nick=bob") as bob,
        ):
            bob.send("hello from a terminal")
            ann.get_by_text("bob: hello from a terminal").wait_for()
            ann.get_by_label("Message").fill("<b>hello</b> from a page")
            ann.get_by_role("button", name="Send").click()
            ann.get_by_text(": <b>hello</b> from a page").wait_for()
            assert bob.hear_until("bob: hello from a terminal")
            while "from a page" not in bob.hear():
                pass
            who = requests.get(f"{url}/who", timeout=PATIENCE).json()
            assert "bob" in who["members"]
            assert len(who["members"]) == 2
            assert requests.post(f"{url}/report", {"text": "saved"}, timeout=PATIENCE).ok
            ann.get_by_text("django: saved").wait_for()
        assert requests.get(f"http://127.0.0.1:{port}/nothing", timeout=PATIENCE).status_code == 404


def test_the_window_of_tkinter_is_a_chat_client() -> None:
    if shutil.which("xvfb-run") is None or find_spec("_tkinter") is None:
        pytest.skip("needs xvfb-run, and Tk in this Python")
    with server() as chat, Client(url_of(chat), nick="bob") as bob:
        until(bob, Welcome)
        command = ["xvfb-run", "-a", sys.executable, "-m", "tests.examples.tk_driver"]
        path = f"{ROOT}:{EXAMPLES}"
        with subprocess.Popen(
            [*command, url_of(chat)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(PYTHONPATH=path),
        ) as process:
            assert messages(until(bob, Message)) == ["hello from the window"]
            bob.say("goodbye")
            shown, _ = process.communicate(timeout=PATIENCE)
        lines = shown.splitlines()
        assert any(line.startswith("-> Unknown command /unknown") for line in lines)
        assert lines.index("window: hello from the window") < lines.index("bob: goodbye")


def test_the_log_comes_to_the_room_with_its_traceback() -> None:
    with server() as chat:
        result = done(python("log_to_room.py", url_of(chat, "/ops")))
        assert result.returncode == 0, result.stderr
        first, second = (each.text for each in chat.history("ops"))
        assert first.startswith(
            "ERROR cannot copy b.lock\nTraceback (most recent call last):\n  File"
        )
        assert first.endswith("\nPermissionError: b.lock is locked")
        assert second == "WARNING the backup is incomplete"


def test_the_robot_answers_commands_also_after_a_restart() -> None:
    port = free_port()
    with running(python("robot.py", f"ws://127.0.0.1:{port}/")):
        for round_ in range(2):
            with server(port) as chat, Client(url_of(chat), nick="ann") as ann:
                wait_for(lambda: "robot" in chat.members())
                until(ann, Welcome)
                for asked, answered in [
                    ("!remember tea green and hot", "I shall remember tea."),
                    ("!recall tea", "green and hot"),
                    ("!roll 1", "1"),
                    ("!roll many", "Usage: !roll [SIDES]: roll a die"),
                ]:
                    ann.say(asked)
                    assert messages(until(ann, Message) + until(ann, Message)) == [asked, answered]
                ann.say("!help")
                until(ann, Message)
                (listed,) = messages(until(ann, Message))
                assert "!recall NAME: show a note" in listed.splitlines()
                if round_ == 1:
                    ann.ask(Private("robot", "recall tea"))
                    (private,) = [
                        each
                        for each in (ann.receive(PATIENCE), ann.receive(PATIENCE))
                        if isinstance(each, PrivateMessage) and each.nick == "robot"
                    ]
                    assert private.text == "green and hot"


@pytest.mark.slow
def test_the_test_rig_streams_samples_without_a_hole() -> None:
    with running(python("test_rig.py", "0")) as rig:
        assert rig.stdout is not None
        url = rig.stdout.readline().split()[-1]
        with connect(url) as stalled:
            with connect(url) as websocket:
                numbers: list[int] = []
                while len(numbers) < 500:
                    message = websocket.recv(PATIENCE)
                    assert isinstance(message, bytes)
                    numbers += [number for number, _, _ in struct.iter_unpack("<Iff", message)]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            # The viewer of the example itself.
            code = f"import test_rig; print(*next(test_rig.samples({url!r})))"
            _, sine, cosine = map(float, done([sys.executable, "-c", code]).stdout.split())
            assert sine**2 + cosine**2 == pytest.approx(1, abs=1e-5)
            stalled.send("stop")
            assert rig.wait(PATIENCE) == 0


def test_the_worker_publishes_through_redis_each_line_once() -> None:
    port = free_port()
    with RedisProcess("--port", str(port)), closing(redis.Redis(port=port)) as queue:
        url = f"redis://127.0.0.1:{port}/0"
        tasks = [
            {"id": "t1", "name": "resize", "arguments": {"width": 10}, "room": "jobs"},
            {"id": "t2", "name": "resize", "arguments": {"width": -1}, "room": "jobs"},
            # Again, as after a worker that was killed.
            {"id": "t1", "name": "resize", "arguments": {"width": 10}, "room": "jobs"},
            {"id": "t3", "name": "quit"},
        ]
        for task in tasks:
            queue.rpush("tasks", json.dumps(task))
        with ChatServer(port=0, engine=url, greeting="", notices=False) as chat:
            with Client(url_of(chat, "/jobs"), nick="ann") as ann:
                until(ann, Welcome)
                result = done(python("worker.py", url, "tasks"))
                assert result.returncode == 0, result.stderr
                heard = [text for _ in range(4) for text in messages(until(ann, Message))]
                assert heard == [
                    "t1: started",
                    "t1: resized to 10",
                    "t2: started",
                    "t2: failed: a width of -1",
                ]
                assert len(chat.history("jobs")) == 4
        assert queue.llen("tasks:running") == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_shell_script_publishes_how_a_command_went() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/ops"
    script = str(EXAMPLES / "publish.sh")
    with running(["bash", script, url, "echo", "  a line of it"]) as early:
        # The server starts later: curl tries again.
        with ChatServer(port=port, greeting="", notices=False, token="s3cret") as chat:
            assert early.wait(PATIENCE) == 0
            assert chat.history("ops") == []
            result = done(["bash", script, url, "false"], TOKEN="s3cret", NICK="backup")
            assert result.returncode == 1
            (said,) = chat.history("ops")
            assert (said.nick, said.text) == ("backup", "false failed with status 1")
            assert '"offset":1' in result.stderr
            result = done(["bash", script, url, "printf", "  a\\n  b"], TOKEN="s3cret")
            assert result.returncode == 0
            assert chat.history("ops", 1)[0].text == "printf is done\n  a\n  b"
            assert chat.history("ops", 1)[0].nick == "cron"


#: Runs a notebook, and prints what its last cell has printed.
EXECUTE = """
import nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
print(notebook.cells[-1].outputs[0].text, end="")
"""


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    pytest.importorskip("nbclient", reason="pip install '.[test]'")
    pytest.importorskip("ipykernel", reason="pip install '.[test]'")
    with server() as chat:
        command = [sys.executable, "-c", EXECUTE, str(EXAMPLES / "notebook.ipynb")]
        result = done(command, ROOM=url_of(chat, "/lab"))
        said = "The sum is 333,332,833,333,500,000"
        assert result.stdout == f"notebook: {said}\nnot delivered: []\n", result.stderr
        assert [each.text for each in chat.history("lab")] == [said]
