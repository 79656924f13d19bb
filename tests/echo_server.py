"""An echo server on the public API: ``python tests/echo_server.py PORT``."""

import sys

from syncchat.net import WebSocket, serve


def echo(websocket: WebSocket) -> None:
    for message in websocket:
        websocket.send(message)


if __name__ == "__main__":
    limit = 16 * 1024 * 1024
    server = serve(
        echo, port=int(sys.argv[1]), max_message=limit, max_fragments=65537, max_backlog=4 * limit
    )
    print(f"listening on port {server.port}", flush=True)
    server.serve_forever()
