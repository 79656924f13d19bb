"""Serves the browser client: one page and its parts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from importlib.resources import files

from ..chat.room_names import room_of
from ..errors import BadRoom
from ..net import Refusal, Request, Response, Route, View
from .modules import joined

__all__ = ["only_websockets", "page_view", "web_routes"]

_PAGE = "index.html"
#: The module that imports the others. It is served with them.
_START = "app.js"
#: The parts of the page are below a path of two segments, which no room has: a room's path has
#: one segment.
_PLACE = "/-/"

#: What browsers and robots ask for beside the page. The rooms of these names have no page, as that
#: of ``/healthz``; a WebSocket enters them.
_BESIDE = {
    "/favicon.ico": "icon-180.png",
    "/manifest.json": "manifest.webmanifest",
    "/manifest.webmanifest": "manifest.webmanifest",
    "/robots.txt": "robots.txt",
}

#: The content types of the files in the folder ``page``, by suffix.
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
}

#: What stands in the page's head besides the modules.
_LINKS = (
    '<link rel="manifest" href="manifest.webmanifest">\n'
    '<link rel="apple-touch-icon" href="-/icon-180.png">\n'
)

#: What the server writes into the page itself.
_INLINED = re.compile(
    r'<link rel="stylesheet" href="-/(?P<style>[\w.-]+)">'
    r'|<script src="-/(?P<script>[\w.-]+)"></script>'
)

#: A Host header's value that may be copied into the Content-Security-Policy.
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def web_routes(check_room_for: Callable[[str], None]) -> dict[str, View | Route]:
    """The routes of the page: ``/`` and ``/ROOM``, its parts below ``/-/``, and ``/-/auth``.

    A browser does not tell a page why its WebSocket was refused. So ``/-/auth`` is checked as a
    handshake is: 204, or the same refusal as JSON. The page requests it with POST, since
    browsers send no ``Origin`` with the GET of a page of the same origin (Fetch Standard, "append
    a request Origin header"). ``check_room_for`` raises :class:`Refusal` if a further client from
    a host would be one too many: this request keeps its connection, and so a place.
    """

    def auth(request: Request) -> Response:
        if request.keeps_alive:
            # Otherwise the place of this request is free for the WebSocket.
            check_room_for(request.remote_address[0])
        return Response(b"", status=HTTPStatus.NO_CONTENT, headers=[("Cache-Control", "no-store")])

    return {
        "/": page_view,
        "/*": page_view,
        f"{_PLACE}auth": Route(auth, ("GET", "HEAD", "POST"), lambda _request: True),
        f"{_PLACE}*": _part,
        **dict.fromkeys(_BESIDE, _beside),
    }


def only_websockets(_request: Request) -> Response:
    """The view of every path of a server without the page."""
    raise Refusal(
        HTTPStatus.UPGRADE_REQUIRED,
        "This is a chat server: connect with a WebSocket client.",
        [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
    )


def page_view(request: Request) -> Response:
    """The page, at the path of a room."""
    name = request.path[1:]
    # The page refers to its parts by relative URLs, which need a path of one segment.
    if "/" in name.removesuffix("/") or name == "/":
        raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
    try:
        room_of(request.path)
    except BadRoom as exc:
        raise Refusal(HTTPStatus.NOT_FOUND, str(exc)) from exc
    if name.endswith("/"):
        # A proxy may have removed the beginning of the path, so only a relative URL is right.
        query = f"?{request.query}" if request.query else ""
        place = f"../{name.removesuffix('/')}{query}"
        return Response(b"", "", HTTPStatus.PERMANENT_REDIRECT, [("Location", place)])
    return _answer(request, _PAGE, _policy(request.host))


def _part(request: Request) -> Response:
    return _answer(request, request.path.removeprefix(_PLACE), "default-src 'none'")


def _beside(request: Request) -> Response:
    return _answer(request, _BESIDE[request.path], "default-src 'none'")


def _policy(host: str) -> str:
    """The Content-Security-Policy of the page: it may load its parts, and open its WebSocket.

    Allows what the server has written into the page by its hash (CSP 3, section 2.3.1). Names
    the WebSocket's URLs, since only newer browsers let ``'self'`` include ``ws:`` to the same host.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    _, scripts, styles = _whole_page()
    return (
        f"default-src 'none'; script-src 'self'{scripts}; style-src 'self'{styles}; "
        "img-src 'self'; "
        f"connect-src 'self'{sockets}; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _answer(request: Request, name: str, policy: str) -> Response:
    if name not in _names() or (name == _PAGE and request.path.startswith(_PLACE)):
        raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
    body, tag, coding = _content(name, _takes_gzip(request.headers.get("accept-encoding", "")))
    headers = [
        ("ETag", tag),
        ("Vary", "Accept-Encoding"),
        # Browsers ask each time, and mostly get a 304 without a body.
        ("Cache-Control", "no-cache"),
        ("Content-Security-Policy", policy),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    # Compared weakly (RFC 9110, section 13.1.2).
    if "*" in known or tag in [each.removeprefix("W/") for each in known]:
        return Response(b"", status=HTTPStatus.NOT_MODIFIED, headers=headers)
    if coding:
        headers.append(("Content-Encoding", coding))
    return Response(body, _TYPES[name.rpartition(".")[2]], headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether an ``Accept-Encoding`` header allows gzip (RFC 9110, section 12.5.3)."""
    weights: dict[str, bool] = {}
    for item in accepted.lower().split(","):
        name, _, weight = item.replace(" ", "").replace("\t", "").partition(";q=")
        weights[name] = weight.strip("0.") != "" if weight else True
    return weights.get("gzip", weights.get("*", False))


@cache
def _names() -> frozenset[str]:
    """The files of the page."""
    folder = files(__package__).joinpath("page")
    return frozenset(
        each.name for each in folder.iterdir() if each.name.rpartition(".")[2] in _TYPES
    )


@cache
def _content(name: str, takes_gzip: bool) -> tuple[bytes, str, str]:  # noqa: FBT001 - a cache's key
    """The bytes of a file of the page, their ETag, and their coding; empty: there is none."""
    body = _whole_page()[0].encode() if name == _PAGE else _file(name)
    coding = ""
    if takes_gzip:
        packed = gzip.compress(body, 9, mtime=0)
        if len(packed) < len(body):
            body, coding = packed, "gzip"
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', coding


def _file(name: str) -> bytes:
    def read(name: str) -> bytes:
        return files(__package__).joinpath("page", name).read_bytes()

    return joined(name, lambda each: read(each).decode()).encode() if name == _START else read(name)


@cache
def _whole_page() -> tuple[str, str, str]:
    """The page as it is served, and what its policy must allow of scripts and of styles.

    The server writes the style sheets and the scripts that are no modules into it: so it can be
    drawn and used when it has come, without a further round trip.
    """
    page = _file(_PAGE).decode()
    allowed: dict[str, str] = {"script": "", "style": ""}

    def inline(found: re.Match[str]) -> str:
        tag, name = "style" if found["style"] else "script", found["style"] or found["script"]
        text = _file(name).decode()
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        allowed[tag] += f" 'sha256-{digest}'"
        return f"<{tag}>{text}</{tag}>"

    page = _INLINED.sub(inline, page)
    page = page.replace("</head>", f"{_LINKS}</head>", 1)
    return page, allowed["script"], allowed["style"]
