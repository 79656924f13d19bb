"""A chat on simple-websocket, behind Werkzeug's threaded server."""

import ssl
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from simple_websocket import ConnectionClosed, Server
from werkzeug.serving import WSGIRequestHandler, make_server

# The same switch interval as the syncchat command.
sys.setswitchinterval(1.0)

lock = threading.Lock()
rooms: defaultdict[str, set[Server]] = defaultdict(set)


def application(environ: dict[str, Any], _start_response: Callable[..., Any]) -> Iterable[bytes]:
    websocket = Server.accept(environ)
    room = rooms[environ["PATH_INFO"]]
    sender = f"{environ['REMOTE_ADDR']}:{environ['REMOTE_PORT']}"
    with lock:
        room.add(websocket)
    try:
        while True:
            text = f"{sender}: {websocket.receive()!s}"
            with lock:
                members = list(room)
            for member in members:
                try:
                    member.send(text)
                except (ConnectionClosed, OSError):
                    continue
    except ConnectionClosed:
        return []  # The load disconnects without a closing handshake.
    finally:
        with lock:
            room.discard(websocket)


class QuietHandler(WSGIRequestHandler):
    # Send at once: by default, Nagle's algorithm is left on.
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


context = None
if len(sys.argv) > 1:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1])
server = make_server(
    "127.0.0.1",
    0,
    application,
    threaded=True,
    request_handler=QuietHandler,
    ssl_context=context,
)
print(f"listening on port {server.port}", flush=True)
server.serve_forever()
