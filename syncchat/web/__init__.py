"""Serves the browser client: one page and its parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from importlib.resources import files

from ..chat.room_names import room_of
from ..errors import BadRoom
from ..net import Refusal, Request, Response, View

__all__ = ["only_websockets", "web_routes"]

#: The parts of the page, with their content types. They are below a path of two segments,
#: which no room has: a room's path has one segment.
_PARTS = {
    "actions.js": "text/javascript; charset=utf-8",
    "address.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "attention.js": "text/javascript; charset=utf-8",
    "blocks.js": "text/javascript; charset=utf-8",
    "candidates.js": "text/javascript; charset=utf-8",
    "commands.js": "text/javascript; charset=utf-8",
    "completion.js": "text/javascript; charset=utf-8",
    "composer.js": "text/javascript; charset=utf-8",
    "dialog.js": "text/javascript; charset=utf-8",
    "drafts.js": "text/javascript; charset=utf-8",
    "drawers.js": "text/javascript; charset=utf-8",
    "events.js": "text/javascript; charset=utf-8",
    "form.js": "text/javascript; charset=utf-8",
    "frame.js": "text/javascript; charset=utf-8",
    "frame_menus.js": "text/javascript; charset=utf-8",
    "link.js": "text/javascript; charset=utf-8",
    "local_commands.js": "text/javascript; charset=utf-8",
    "log.js": "text/javascript; charset=utf-8",
    "menu.js": "text/javascript; charset=utf-8",
    "message.js": "text/javascript; charset=utf-8",
    "newest.js": "text/javascript; charset=utf-8",
    "nick.js": "text/javascript; charset=utf-8",
    "notices.js": "text/javascript; charset=utf-8",
    "notifier.js": "text/javascript; charset=utf-8",
    "operators.js": "text/javascript; charset=utf-8",
    "passed.js": "text/javascript; charset=utf-8",
    "pasting.js": "text/javascript; charset=utf-8",
    "people.js": "text/javascript; charset=utf-8",
    "people_list.js": "text/javascript; charset=utf-8",
    "private.js": "text/javascript; charset=utf-8",
    "protocol.js": "text/javascript; charset=utf-8",
    "quote.js": "text/javascript; charset=utf-8",
    "reading.js": "text/javascript; charset=utf-8",
    "room_list.js": "text/javascript; charset=utf-8",
    "rooms.js": "text/javascript; charset=utf-8",
    "scroller.js": "text/javascript; charset=utf-8",
    "search.js": "text/javascript; charset=utf-8",
    "settings.js": "text/javascript; charset=utf-8",
    "settings_dialog.js": "text/javascript; charset=utf-8",
    "shown.js": "text/javascript; charset=utf-8",
    "spoken.js": "text/javascript; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "storage.js": "text/javascript; charset=utf-8",
    "switcher.js": "text/javascript; charset=utf-8",
    "taste.js": "text/javascript; charset=utf-8",
    "text.js": "text/javascript; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "times.js": "text/javascript; charset=utf-8",
    "token.js": "text/javascript; charset=utf-8",
    "typed_history.js": "text/javascript; charset=utf-8",
    "composer.css": "text/css; charset=utf-8",
    "dialog.css": "text/css; charset=utf-8",
    "frame_dialogs.css": "text/css; charset=utf-8",
    "log.css": "text/css; charset=utf-8",
    "people.css": "text/css; charset=utf-8",
    "rooms.css": "text/css; charset=utf-8",
    "search.css": "text/css; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon-unread.svg": "image/svg+xml",
    "icon.svg": "image/svg+xml",
}
_PLACE = "/-/"

#: A Host header's value that may be copied into the Content-Security-Policy.
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def web_routes(authorize: Callable[[Request], None] | None) -> dict[str, View]:
    """The routes of the page: ``/`` and ``/ROOM``, its parts below ``/-/``, and ``/-/auth``.

    ``/-/auth`` tells the page whether its token is right: 204, or the refusal that
    ``authorize`` raises. The page needs it since a browser does not tell it why a WebSocket
    was refused.
    """

    def auth(request: Request) -> Response:
        if authorize is not None:
            authorize(request)
        return Response(b"", status=HTTPStatus.NO_CONTENT, headers=[("Cache-Control", "no-store")])

    return {"/": _page, "/*": _page, f"{_PLACE}auth": auth, f"{_PLACE}*": _part}


def only_websockets(_request: Request) -> Response:
    """The view of every path of a server without the page."""
    raise Refusal(
        HTTPStatus.UPGRADE_REQUIRED,
        "This is a chat server: connect with a WebSocket client.",
        [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")],
    )


def _page(request: Request) -> Response:
    # The page refers to its parts by relative URLs, which need a path of one segment.
    if "/" in request.path[1:]:
        raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
    try:
        room_of(request.path)
    except BadRoom as exc:
        raise Refusal(HTTPStatus.NOT_FOUND, str(exc)) from exc
    return _answer(request, "index.html", "text/html; charset=utf-8", _policy(request.host))


def _part(request: Request) -> Response:
    name = request.path.removeprefix(_PLACE)
    if name not in _PARTS:
        raise Refusal(HTTPStatus.NOT_FOUND, "Not found.")
    return _answer(request, name, _PARTS[name], "default-src 'none'")


def _policy(host: str) -> str:
    """The Content-Security-Policy of the page: it may load its parts, and open its WebSocket.

    Names the WebSocket's URLs, since only newer browsers let ``'self'`` include ``ws:`` to
    the same host.
    """
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _answer(request: Request, name: str, content_type: str, policy: str) -> Response:
    body, tag = _content(name)
    headers = [
        ("ETag", tag),
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
    return Response(body, content_type, headers=headers)


@cache
def _content(name: str) -> tuple[bytes, str]:
    """The bytes of a part of the page, and its ETag."""
    body = files(__package__).joinpath("page", name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
