"""EventSource in real browsers, through kills of the server."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncchat.net import Request, Response, Route, Server, View, serve
from tests.peer import PATIENCE, free_port, wait_for
from tests.processes import SERVER, Script
from tests.web.firefox import FIREFOX, write_preferences
from tests.windows import CHROMIUM, FLAGS

#: Follows the room, and reports what it gets to the server of the page. Firefox gives up if a
#: server of another origin is killed when it has just begun to answer: the page follows anew then.
PAGE = """<!doctype html><meta charset="utf-8"><script>
let reports = Promise.resolve(), last = "";
function report(what) {
  reports = reports.then(() => fetch("/report", {method: "POST", body: JSON.stringify(what)}));
}
function follow(url) {
  const source = new EventSource(url);
  source.onmessage = (event) => {
    last = event.lastEventId;
    report({id: last, text: JSON.parse(event.data).text});
  };
  source.addEventListener("welcome", (event) => {
    last = event.lastEventId;
    report({id: last});
  });
  source.addEventListener("history", (event) => report({gap: event.data}));
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    report({closed: true});
    setTimeout(() => follow(`%(url)s?after=${last}`), 500);
  };
}
follow("%(url)s");
</script>"""

BROWSERS: dict[str, tuple[str, ...]] = {
    "chromium": (CHROMIUM or "", "--headless=new", *FLAGS, "--user-data-dir={home}"),
    "firefox": (
        FIREFOX or "",
        "--headless",
        "--no-remote",
        "--profile",
        "{home}",
    ),
}


class Reports:
    """A server with the page, which is not killed."""

    def __init__(self, url: str) -> None:
        self._page = PAGE % {"url": url}
        self._lock = threading.Lock()
        self.got: list[dict[str, str]] = []
        routes: dict[str, View | Route] = {
            "/": self._show,
            "/report": Route(self._take, ("POST", "GET")),
        }
        self.server: Server = serve(lambda _: None, routes=routes)

    def _show(self, _request: Request) -> Response:
        return Response(self._page, "text/html")

    def _take(self, request: Request) -> Response:
        with self._lock:
            self.got.append(json.loads(request.read_body(10_000)))
        return Response(b"")

    def texts(self) -> list[str]:
        with self._lock:
            return [each["text"] for each in self.got if "text" in each]

    def welcomes(self) -> int:
        with self._lock:
            return sum(list(each) == ["id"] for each in self.got)

    def wait_for_welcome(self, after: int) -> None:
        """Wait until the page has had more welcomes than ``after``."""
        wait_for(lambda: self.welcomes() > after, f"a welcome after {self.got[-1:]}")


@contextmanager
def window(browser: str, url: str) -> Iterator[None]:
    """A window of a browser with a profile of its own."""
    command = BROWSERS[browser]
    if not command[0]:
        pytest.skip(f"there is no {browser}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        write_preferences(Path(home))
        with subprocess.Popen(
            [part.format(home=home) for part in command] + [url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                finally:
                    process.kill()


def say(port: int, text: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        client.request("POST", "/ops?nick=cron", text.encode(), {"Idempotency-Key": text})
        assert client.getresponse().status == 201
    finally:
        client.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("browser", "kills"),
    [
        pytest.param("chromium", 20, marks=pytest.mark.slow),
        pytest.param("firefox", 20, marks=pytest.mark.slow),
    ],
)
def test_each_message_comes_once_and_in_order_through_kills(
    browser: str, kills: int, tmp_path: Path
) -> None:
    port = free_port()
    reports = Reports(f"http://127.0.0.1:{port}/ops")
    engine = f"sqlite:{tmp_path / 'log.db'}"
    said: list[str] = []
    with reports.server as page:
        origin = f"http://127.0.0.1:{page.port}"
        flags = ["--port", str(port), "--engine", engine, "--origin", origin, "--rate", "0"]

        @contextmanager
        def start() -> Iterator[None]:
            with Script([*SERVER, *flags]) as script:
                script.wait_for_line(r"listening on port \d+")
                yield

        with window(browser, f"{origin}/"):
            for kill in range(kills):
                welcomes = reports.welcomes()
                # It is killed at the end of the block.
                with start():
                    if kill % 4 != 1:
                        reports.wait_for_welcome(welcomes)
                    # Otherwise the server is killed before the browser is back.
                    for number in range(3):
                        said.append(f"{kill}.{number}")
                        say(port, said[-1])
            with start():
                said.append("the end")
                say(port, said[-1])
                wait_for(lambda: reports.texts()[-1:] == ["the end"], "the end")
    assert reports.texts() == said
    assert not any("gap" in each for each in reports.got)
    assert browser == "firefox" or not any("closed" in each for each in reports.got)
    offsets = [int(each["id"].split(":")[1]) for each in reports.got if "text" in each]
    assert offsets == list(range(1, len(said) + 1))
