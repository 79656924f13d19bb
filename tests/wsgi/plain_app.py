"""The WSGI application without a framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from syncchat.net import Refusal
from syncchat.wsgi import accept
from tests.wsgi.talk import SECRET, talk

StartResponse = Callable[[str, list[tuple[str, str]]], object]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    status, headers, body = "200 OK", [("Content-Type", "text/plain")], b"page"
    if environ["PATH_INFO"].startswith("/live"):
        try:
            with accept(
                environ,
                subprotocols=["a", "b"],
                response_headers=[("X-App", "1")],
                origins=["https://friend.example"],
                max_message=100,
            ) as websocket:
                if environ["QUERY_STRING"]:
                    websocket.send(f"{websocket.request.target} {websocket.remote_address[0]}")
                talk(websocket)
            body = SECRET.encode()
        except Refusal as refusal:
            status = f"{refusal.status.value} {refusal.status.phrase}"
            headers += refusal.headers
            body = refusal.text.encode()
    headers.append(("Content-Length", str(len(body))))
    start_response(status, headers)
    return [body]
