"""A chat on websocket-server, with its own send_message_to_all(); without rooms."""

import sys
from typing import Any

from websocket_server import WebsocketServer
from websocket_server.websocket_server import WebSocketHandler

# The same switch interval as the syncchat command.
sys.setswitchinterval(1.0)

# Send at once, as all other servers here do. By default, Nagle's algorithm is left on,
# and a message waits until the client has confirmed the one before.
WebSocketHandler.disable_nagle_algorithm = True
# By default, the queue of new connections has room for 5 only.
WebsocketServer.request_queue_size = 128


def on_message(client: dict[str, Any], server: WebsocketServer, message: str) -> None:
    host, port = client["address"]
    server.send_message_to_all(f"{host}:{port}: {message}")


server = WebsocketServer("127.0.0.1", 0)
server.set_fn_message_received(on_message)
print(f"listening on port {server.port}", flush=True)
server.run_forever()
