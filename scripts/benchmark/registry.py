"""The servers that are compared, by their names."""

from __future__ import annotations

from .nodes import OurNodes, SocketIoNodes
from .running import Server
from .servers import (
    Bun,
    CompiledFloor,
    Floor,
    Node,
    Ours,
    OursOnDisk,
    Peer,
    Relay,
    WebsocketServer,
)
from .wsgi import InGunicorn, SocketIoInGunicorn

__all__ = ["COMPILED_FLOOR", "FLOOR", "OURS", "OURS_IN_GUNICORN", "SERVERS"]

OURS = "syncchat"
#: With which the other servers in gunicorn are compared.
OURS_IN_GUNICORN = "syncchat-wsgi"
#: The servers that are no chat but a lower bound.
FLOOR, COMPILED_FLOOR = "bare-loop", "bare-loop-c"

SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Ours(OURS),
        OursOnDisk("syncchat-sqlite"),
        OurNodes("syncchat-nodes"),
        SocketIoNodes("socket.io-nodes"),
        Relay("websockets-asyncio", "websockets_asyncio.py", "websockets"),
        Relay("picows", "picows_asyncio.py", "picows"),
        Peer("websockets-threads", "websockets_threads.py", "websockets"),
        Peer("websockets-threads-broadcast", "websockets_threads_broadcast.py", "websockets"),
        Peer("simple-websocket", "simple_websocket_threads.py", "simple-websocket"),
        WebsocketServer("websocket-server", "websocket_server_threads.py", "websocket-server"),
        Node("node-ws", "node_ws.js", "ws"),
        Bun("bun", "bun.js", "bun"),
        InGunicorn(OURS_IN_GUNICORN, "wsgi_syncchat"),
        InGunicorn("flask-sock", "wsgi_flask_sock", "flask-sock", "simple-websocket"),
        SocketIoInGunicorn(
            "flask-socketio", "wsgi_flask_socketio", "flask-socketio", "simple-websocket"
        ),
        Floor(FLOOR, "bare_loop.py", ""),
        CompiledFloor(COMPILED_FLOOR),
    )
}
