"""How the page is served."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Iterator

import pytest
from wsproto.events import TextMessage

from syncchat import ChatServer
from tests.peer import Peer, ask_http
from tests.processes import ROOT, ServerScript

PARTS = sorted(path.name for path in (ROOT / "syncchat" / "web" / "page").iterdir())
PARTS.remove("index.html")

FULL = "Too many clients from your address: the operator can raise --max-connections-per-address."


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with ChatServer(port=0) as chat:
        yield chat


def test_the_page_and_its_parts_have_strict_headers_and_etags(chat: ChatServer) -> None:
    for path in ["/", "/kitchen", "/%23A%2Bb", *(f"/-/{name}" for name in PARTS)]:
        status, headers, body = ask_http(chat.port, path)
        assert (status, headers["x-content-type-options"]) == (200, "nosniff")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert int(headers["content-length"]) == len(body) > 20
        assert "content-encoding" not in headers
        tag = headers["etag"]
        for known in (tag, f'W/{tag}, "other"', "*"):
            assert ask_http(chat.port, path, If_None_Match=known)[::2] == (304, b"")
        assert ask_http(chat.port, path, If_None_Match='"other"')[0] == 200
        assert ask_http(chat.port, path, "HEAD")[::2] == (200, b"")
        status, headers, _ = ask_http(chat.port, path, "PUT")
        assert status == 405
        assert headers["allow"].startswith("GET, HEAD")
    policy = ask_http(chat.port, "/", Host="localhost")[1]["content-security-policy"]
    assert "connect-src 'self' ws://localhost wss://localhost; manifest-src 'self';" in policy
    for path in ("/a/b", "/-/nothing", "/-/../server.py", "/-/", "/-/index.html", "/" + "x" * 200):
        assert ask_http(chat.port, path)[0] == 404, path


def test_the_page_is_small_and_comes_compressed(chat: ChatServer) -> None:
    """Issue 20: at most 60 KB in all, with the modules in one script."""
    sizes = {}
    for path in ["/", *(f"/-/{name}" for name in PARTS)]:
        _, plain, whole = ask_http(chat.port, path)
        _, headers, body = ask_http(chat.port, path, Accept_Encoding="br, gzip;q=0.5")
        assert headers["vary"] == plain["vary"] == "Accept-Encoding"
        if headers.get("content-encoding") == "gzip":
            assert gzip.decompress(body) == whole
            assert headers["etag"] != plain["etag"]
        else:
            assert body == whole
            assert path.endswith((".png", ".txt"))
        known = {"Accept_Encoding": "gzip", "If_None_Match": headers["etag"]}
        status, again, _ = ask_http(chat.port, path, **known)
        assert (status, again["etag"], again["vary"]) == (304, headers["etag"], "Accept-Encoding")
        sizes[path] = len(body)
    for refused in ("", "br", "gzip;q=0", "gzip; q=0.000", "*;q=0", "identity"):
        assert "content-encoding" not in ask_http(chat.port, "/", Accept_Encoding=refused)[1]
    for taken in ("*", "GZIP", "gzip ; q=0.001"):
        assert "content-encoding" in ask_http(chat.port, "/", Accept_Encoding=taken)[1]
    head = ask_http(chat.port, "/")[2].decode().partition("</head>")[0]
    places = re.findall(r'(?:src|href)="([^"]+)"', head)
    assert not [place for place in places if place.startswith(("/", "http"))]
    for place in places:
        assert ask_http(chat.port, f"/{place}")[0] == 200, place
    loaded = ["/", *(f"/{place}" for place in places if f"/{place}" in sizes)]
    size = sum(sizes[path] for path in loaded if not path.endswith(".png"))
    print(f"the page: {size} bytes compressed")
    assert size <= 60_000
    assert "/-/app.js" in loaded


def test_all_modules_are_in_the_script_of_the_page(chat: ChatServer) -> None:
    modules = [name for name in PARTS if name.endswith(".js") and name != "start.js"]
    exported = []
    script = ask_http(chat.port, "/-/app.js")[2].decode()
    for name in modules:
        text = (ROOT / "syncchat" / "web" / "page" / name).read_text("utf-8")
        # What has another form would be left out.
        for line in re.findall(r"^(?:import|export)\b.*", text, re.MULTILINE):
            form = (
                r'import (\{[\w, ]+\} from )?"\./\w+\.js";|export (async )?(function|class) \w+.*'
            )
            assert re.fullmatch(rf"{form}|export const \w+ = (?!.*, [A-Z_]+ =).*", line), line
        own = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", text, re.MULTILINE)
        assert not own or f"const {{ {', '.join(own)} }} = (() => {{" in script, name
        exported += own
    assert len(exported) == len(set(exported))
    assert not re.search(r"^(?:import|export)\b", script, re.MULTILINE)


def test_what_browsers_and_robots_ask_for_beside_the_page(chat: ChatServer) -> None:
    """Issue 20: an icon, a manifest with relative URLs, and a file for robots; /ops/ is /ops."""
    assert ask_http(chat.port, "/robots.txt")[2] == b"User-agent: *\nDisallow: /\n"
    icon = ask_http(chat.port, "/favicon.ico")
    assert (icon[0], icon[1]["content-type"]) == (200, "image/png")
    _, headers, body = ask_http(chat.port, "/manifest.webmanifest")
    assert headers["content-type"] == "application/manifest+json"
    manifest = json.loads(body)
    assert (manifest["start_url"], manifest["scope"]) == ("./", "./")
    assert ask_http(chat.port, "/manifest.json")[2] == body
    assert {"maskable", None} == {icon.get("purpose") for icon in manifest["icons"]}
    for each in manifest["icons"]:
        status, headers, image = ask_http(chat.port, f"/{each['src']}")
        assert (status, headers["content-type"]) == (200, each["type"])
        if each["type"] == "image/png":
            width, height = struct.unpack(">II", image[16:24])
            assert each["sizes"] == f"{width}x{height}"
    for path, place in [
        ("/ops/", "../ops"),
        ("/%23A%2Bb/?nick=ann&x", "../%23A%2Bb?nick=ann&x"),
        ("/a:b/", "../a:b"),
    ]:
        status, headers, _ = ask_http(chat.port, path)
        assert (status, headers["location"]) == (308, place)
    for path in ("//", "/../", "/%2e%2e/", "//evil.example/", "/a b/".replace(" ", "%20")):
        assert ask_http(chat.port, path)[0] == 404, path
    # The rooms of these names have no page, but they are rooms.
    with Peer.client(chat.port, "/robots.txt") as peer:
        assert peer.expect(TextMessage).data.startswith("Welcome")


def test_auth_says_why_a_websocket_is_refused() -> None:
    """Issue 20: the checks are those of a handshake, and the operator learns what to set."""

    def auth(chat: ChatServer, method: str = "POST", **headers: str) -> tuple[int, str]:
        status, _, body = ask_http(chat.port, "/-/auth", method, **headers)
        return status, json.loads(body)["error"] if body else ""

    with ChatServer(port=0, token="s3cret") as chat:
        right = {"Authorization": "Bearer s3cret", "Origin": f"http://127.0.0.1:{chat.port}"}
        assert auth(chat, **right) == auth(chat, "GET", Authorization="Bearer s3cret") == (204, "")
        assert auth(chat) == (401, "A token is required.")
        assert auth(chat, Authorization="Bearer x") == (401, "The token is wrong.")
        status, text = auth(chat, **right | {"Origin": "https://chat.example.org"})
        assert status == 403
        assert "--public-url https://chat.example.org" in text
        assert "--origin https://chat.example.org" in text
        for origin in ("null", "https://<script>", "file://x"):
            status, text = auth(chat, **right | {"Origin": origin})
            assert (status, origin in text) == (403, False)
        status, text = auth(chat, Host="chat.example.org")
        assert status == 403
        assert "does not answer to chat.example.org" in text
        assert "--public-url" in text
        status, headers, body = ask_http(chat.port, "/", Host="chat.example.org")
        assert (status, headers["content-type"]) == (403, "text/plain; charset=utf-8")
        assert b"--public-url" in body
    with ChatServer(port=0, origins=["https://chat.example.org"]) as chat:
        own = {"Host": "chat.example.org", "Origin": "https://chat.example.org"}
        assert auth(chat, **own) == (204, "")
        assert ask_http(chat.port, "/", **own)[0] == 200
    with ChatServer(port=0, max_connections_per_address=2) as chat, Peer.client(chat.port):
        # This request has the second place, so that there is none for a WebSocket.
        assert auth(chat) == (503, FULL)
    with ChatServer(port=0, max_connections_per_address=1) as chat:
        assert auth(chat, Connection="close") == (204, "")


def test_a_server_without_the_page_answers_with_a_hint() -> None:
    with ServerScript("--no-web") as server:
        for path in ("/", "/kitchen", "/-/app.js"):
            status, headers, body = ask_http(server.port, path)
            assert (status, body[:21]) == (426, b"This is a chat server")
            assert (headers["upgrade"], headers["connection"]) == ("websocket", "Upgrade")
        assert ask_http(server.port, "/healthz")[0] == 200
    with ServerScript(SYNCCHAT_WEB="no") as server:
        assert ask_http(server.port, "/")[0] == 426
