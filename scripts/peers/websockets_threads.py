"""A chat on websockets' threaded server, which sends to each client in turn."""

import signal
import sys
import threading
from types import FrameType

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

lock = threading.Lock()
connections: set[ServerConnection] = set()


def handler(websocket: ServerConnection) -> None:
    host, port = websocket.remote_address[:2]
    with lock:
        connections.add(websocket)
    try:
        for message in websocket:
            text = f"{host}:{port}: {message!s}"
            with lock:
                members = list(connections)
            for member in members:
                try:
                    member.send(text)
                except ConnectionClosed:
                    continue
    except ConnectionClosed:
        pass  # The load hangs up without a closing handshake.
    finally:
        with lock:
            connections.discard(websocket)


with serve(handler, "127.0.0.1", int(sys.argv[1]), compression=None, ping_interval=None) as server:

    def stop(_signum: int, _frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown, name="stop").start()

    signal.signal(signal.SIGTERM, stop)
    print(f"listening on port {server.socket.getsockname()[1]}", flush=True)
    server.serve_forever()
