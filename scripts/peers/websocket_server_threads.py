"""A chat on websocket-server, with its own send_message_to_all(); without rooms."""

import sys
from typing import Any

from websocket_server import WebsocketServer
from websocket_server.websocket_server import WebSocketHandler

# As our command does.
sys.setswitchinterval(0.05)

# Send at once, as every other server here does: by itself it leaves Nagle's
# algorithm on, and a message waits until the client has confirmed the one before.
WebSocketHandler.disable_nagle_algorithm = True
# More than 5 clients may come at a time.
WebsocketServer.request_queue_size = 128


def on_message(client: dict[str, Any], server: WebsocketServer, message: str) -> None:
    host, port = client["address"]
    server.send_message_to_all(f"{host}:{port}: {message}")


server = WebsocketServer("127.0.0.1", 0)
server.set_fn_message_received(on_message)
print(f"listening on port {server.port}", flush=True)
server.run_forever()
