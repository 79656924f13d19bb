"""Debian's Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as other_librarys_connect

from tests.peer import PATIENCE, wait_for

__all__ = ["FIREFOX", "FirefoxWindow", "RunningFirefox", "run_firefox", "write_preferences"]

#: The Firefox of the system, if there is one.
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

#: No requests to other machines.
_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:9/",
    "toolkit.telemetry.enabled": False,
}

#: The browser's own errors for a missing server.
_EXPECTED = (
    "can’t establish a connection to the server",
    "was interrupted while the page was loading",
)

#: 0 is dark, 1 is light, 2 is the system's.
_SCHEME = "layout.css.prefers-color-scheme.content-override"

#: Keys without a character (https://www.w3.org/TR/webdriver2/#keyboard-actions).
_KEYS = {
    "Alt": "\ue00a",
    "ArrowDown": "\ue015",
    "ArrowLeft": "\ue012",
    "ArrowRight": "\ue014",
    "ArrowUp": "\ue013",
    "Backspace": "\ue003",
    "Control": "\ue009",
    "Delete": "\ue017",
    "End": "\ue010",
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Home": "\ue011",
    "PageDown": "\ue00f",
    "PageUp": "\ue00e",
    "Shift": "\ue008",
    "Tab": "\ue004",
}


def write_preferences(profile: Path) -> None:
    """Write the preferences of a new profile, which is an empty folder."""
    lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in _PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines), "utf-8")


@contextmanager
def run_firefox() -> Iterator[RunningFirefox]:
    """Start a Firefox of which windows can be opened."""
    assert FIREFOX is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        write_preferences(Path(home))
        # System access lets a test set the preference for the colour scheme.
        flags = ["--headless", "--no-remote", "--remote-allow-system-access"]
        with subprocess.Popen(
            [FIREFOX, *flags, "--remote-debugging-port", "0", "--profile", home, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                address = Path(home) / "WebDriverBiDiServer.json"
                wait_for(lambda: address.exists() and address.read_text().endswith("}"), "Firefox")
                found = json.loads(address.read_text())
                url = f"ws://{found['ws_host']}:{found['ws_port']}/session"
                with other_librarys_connect(url, max_size=None, ping_interval=None) as socket:
                    yield RunningFirefox(socket)
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                finally:
                    process.kill()


class RunningFirefox:
    """The session with a running Firefox. For one thread."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        #: The errors of each window's scripts, by its context.
        self._errors: dict[str, list[str]] = {}
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        tree = self.command("browsingContext.getTree", **{"moz:scope": "chrome"})
        self._chrome = tree["contexts"][0]["context"]

    def command(self, method: str, **params: object) -> Any:
        """Send a command, and return its result. Raises :class:`RuntimeError` if it fails."""
        self._number += 1
        wanted = {"id": self._number, "method": method, "params": params}
        self._socket.send(json.dumps(wanted))
        while True:
            answer = json.loads(self._socket.recv(PATIENCE))
            if answer.get("id") == self._number:
                if answer["type"] == "error":
                    raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]
            if answer.get("method") == "log.entryAdded":
                entry = answer["params"]
                text = entry["text"] or ""
                if entry["level"] == "error" and not any(each in text for each in _EXPECTED):
                    self._errors.setdefault(entry["source"]["context"], []).append(text)

    @contextmanager
    def window(self, url: str, width: int, height: int, scheme: str) -> Iterator[FirefoxWindow]:
        """A window with a storage of its own. ``scheme`` is ``light`` or ``dark``.

        All windows have the scheme of the last one.
        """
        number = {"dark": 0, "light": 1}[scheme]
        self._evaluate(self._chrome, f"Services.prefs.setIntPref('{_SCHEME}', {number})")
        user = self.command("browser.createUserContext")["userContext"]
        try:
            context = self.command("browsingContext.create", type="tab", userContext=user)[
                "context"
            ]
            viewport = {"width": width, "height": height}
            self.command("browsingContext.setViewport", context=context, viewport=viewport)
            window = FirefoxWindow(self, context)
            window.goto(url)
            yield window
        finally:
            # Closes the window, too.
            self.command("browser.removeUserContext", userContext=user)

    def evaluate(self, context: str, expression: str) -> Any:
        """The value of an expression of JavaScript, or of its promise, as JSON has it."""
        text = self._evaluate(context, f"(async () => JSON.stringify(await ({expression})))()")
        return None if text is None else json.loads(text)

    def errors(self, context: str) -> list[str]:
        """The errors of the window's scripts so far."""
        self.command("session.status")
        return self._errors.get(context, [])

    def _evaluate(self, context: str, expression: str) -> str | None:
        answer = self.command(
            "script.evaluate", expression=expression, target={"context": context}, awaitPromise=True
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        value: str | None = answer["result"].get("value")
        return value


class FirefoxWindow:
    """A window of Firefox: see :class:`tests.web.both.Window`."""

    def __init__(self, firefox: RunningFirefox, context: str) -> None:
        self._firefox = firefox
        self._context = context

    def goto(self, url: str) -> None:
        self._command("browsingContext.navigate", url=url, wait="complete")

    def reload(self) -> None:
        self._command("browsingContext.reload", wait="complete")

    def evaluate(self, expression: str) -> Any:
        return self._firefox.evaluate(self._context, expression)

    def click(self, selector: str) -> None:
        chosen = f"document.querySelector({json.dumps(selector)})"
        wait_for(lambda: self.evaluate(f"{chosen}?.checkVisibility() ?? false"), selector)
        self.evaluate(f"{chosen}.scrollIntoView({{block: 'nearest'}})")
        locator = {"type": "css", "value": selector}
        nodes = self._command("browsingContext.locateNodes", locator=locator)["nodes"]
        element = {"type": "element", "element": {"sharedId": nodes[0]["sharedId"]}}
        self._act(
            {
                "type": "pointer",
                "id": "mouse",
                "actions": [
                    {"type": "pointerMove", "x": 0, "y": 0, "origin": element},
                    {"type": "pointerDown", "button": 0},
                    {"type": "pointerUp", "button": 0},
                ],
            }
        )

    def type(self, text: str) -> None:
        self._keys([(kind, char) for char in text for kind in ("keyDown", "keyUp")])

    def press(self, keys: str) -> None:
        values = [_KEYS.get(key, key) for key in keys.split("+")]
        self._keys(
            [("keyDown", value) for value in values]
            + [("keyUp", value) for value in reversed(values)]
        )

    def screenshot(self) -> bytes:
        return base64.b64decode(self._command("browsingContext.captureScreenshot")["data"])

    def errors(self) -> list[str]:
        return self._firefox.errors(self._context)

    def _keys(self, strokes: list[tuple[str, str]]) -> None:
        actions = [{"type": kind, "value": value} for kind, value in strokes]
        self._act({"type": "key", "id": "keyboard", "actions": actions})

    def _act(self, source: dict[str, object]) -> None:
        self._command("input.performActions", actions=[source])

    def _command(self, method: str, **params: object) -> Any:
        return self._firefox.command(method, context=self._context, **params)
