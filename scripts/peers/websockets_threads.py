"""A chat on websockets' threaded server, which sends to each client in turn."""

import ssl
import sys
import threading
from collections import defaultdict

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

# The same switch interval as the syncchat command.
sys.setswitchinterval(1.0)

lock = threading.Lock()
rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


def handler(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    room = rooms[websocket.request.path]
    host, port = websocket.remote_address[:2]
    with lock:
        room.add(websocket)
    try:
        for message in websocket:
            text = f"{host}:{port}: {message!s}"
            with lock:
                members = list(room)
            for member in members:
                try:
                    member.send(text)
                except ConnectionClosed:
                    continue
    except ConnectionClosed:
        pass  # The load disconnects without a closing handshake.
    finally:
        with lock:
            room.discard(websocket)


context = None
if len(sys.argv) > 1:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[1])
with serve(handler, "127.0.0.1", 0, ssl=context, compression=None, ping_interval=None) as server:
    print(f"listening on port {server.socket.getsockname()[1]}", flush=True)
    server.serve_forever()
