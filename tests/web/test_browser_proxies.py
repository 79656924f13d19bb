"""The page behind the documented proxies: its own host, a path, and TLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from syncchat import ChatServer
from tests.caddy import Caddy
from tests.documents import DOCS, blocks_of
from tests.haproxy import HAProxy
from tests.nginx import NGINX, Nginx
from tests.web.both import AnyBrowser, wait_until
from tests.windows import CHROMIUM, FLAGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

URL = "https://chat.example.org"

Make = Callable[[Path, int, Path], Nginx | Caddy | HAProxy]


def recipe(language: str, port: int) -> str:
    (text,) = (b.text for b in blocks_of(DOCS / "operations.md") if b.language == language)
    return text.replace("127.0.0.1:2000", f"127.0.0.1:{port}")


def nginx(folder: Path, port: int, certificate: Path) -> Nginx:
    if NGINX is None:
        pytest.skip("needs nginx")
    config = recipe("nginx", port)
    location = re.search(r"    location / \{.*?\n    \}\n", config, re.DOTALL)
    assert location is not None
    at_path = location[0].replace("location /", "location /chat/")
    config = config.replace(location[0], location[0] + at_path)
    config = re.sub(r"(ssl_certificate(?:_key)?) .*;", rf"\1 {certificate};", config)
    return Nginx(folder, re.sub(r"listen .*;", "listen {listen} ssl;", config))


def caddy(folder: Path, port: int, certificate: Path) -> Caddy:
    config = recipe("caddy", port)
    begin, end = config.index("    reverse_proxy"), config.rindex("}")
    proxy = config[begin:end]
    both = f"    handle_path /chat/* {{\n{proxy}    }}\n    handle {{\n{proxy}    }}\n"
    return Caddy(folder, config[:begin] + both + config[end:], certificate)


def haproxy(folder: Path, port: int, certificate: Path) -> HAProxy:
    return HAProxy(folder, recipe("haproxy", port).replace("/etc/ssl/chat.pem", str(certificate)))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    issued = trustme.CA().issue_cert("chat.example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return path


@contextmanager
def chromium_at(browser: Browser, port: int) -> Iterator[AnyBrowser]:
    """A Chromium for which the port is the host's."""
    flags = [f"--host-resolver-rules=MAP * 127.0.0.1:{port}", "--ignore-certificate-errors"]
    launched = browser.browser_type.launch(executable_path=CHROMIUM, args=FLAGS + flags)
    try:
        yield AnyBrowser(launched)
    finally:
        launched.close()


@pytest.mark.parametrize("make", [nginx, caddy, haproxy])
def test_behind_the_documented_proxy(
    browser: Browser, tmp_path: Path, certificate: Path, make: Make
) -> None:
    """Issue 20: the page is in the room at its own host and at a path; and says what is wrong."""
    with (
        ChatServer(port=0, public_url=URL, greeting="") as chat,
        make(tmp_path, chat.port, certificate) as proxy,
        chromium_at(browser, proxy.port) as chromium,
        chromium.window(f"{URL}/ops", "ann") as ann,
    ):
        for path in ("/ops", "/chat/ops"):
            if path != "/ops":
                ann.goto(f"{URL}/chat/ops/?x=1")
            wait_until(
                ann, "document.querySelector('#names, #people')?.textContent.includes('ann')"
            )
            ann.click("#input")
            ann.type(f"from {path}")
            ann.press("Enter")
            wait_until(ann, f"document.querySelector('#log').textContent.includes('from {path}')")
            assert ann.evaluate("location.pathname") == path
        port = chat.port
        chat.stop()
        with ChatServer(port=port):
            ann.goto(f"{URL}/ops")
            text = ann.evaluate("document.body.innerText")
            assert "does not answer to chat.example.org" in text
            assert f"--public-url and the URL that people open, such as {URL}" in text


def test_a_page_learns_why_its_websocket_is_refused(
    browser: Browser, tmp_path: Path, certificate: Path
) -> None:
    """Issue 20: nginx without the line for Host serves the page, and nothing else works."""
    with ChatServer(port=0) as chat:
        broken = nginx(tmp_path, chat.port, certificate)
        config = tmp_path / "nginx.conf"
        config.write_text(config.read_text().replace("proxy_set_header Host $http_host;", ""))
        with broken as proxy, chromium_at(browser, proxy.port) as chromium:
            with chromium.window(URL) as page:
                answer = page.evaluate(
                    "fetch('-/auth', {method: 'POST'})"
                    ".then(async (it) => [it.status, await it.json()])"
                )
                assert answer[0] == 403
                assert f"must start the server with --public-url {URL};" in answer[1]["error"]
