"""A chat on websockets' asyncio server, with its own broadcast()."""

import asyncio
import ssl
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

rooms: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def handler(websocket: ServerConnection) -> None:
    assert websocket.request is not None
    room = rooms[websocket.request.path]
    host, port = websocket.remote_address[:2]
    prefix = "" if websocket.request.path == "/relay" else f"{host}:{port}: "
    room.add(websocket)
    try:
        async for message in websocket:
            broadcast(room, f"{prefix}{message!s}")
    except ConnectionClosed:
        pass  # The load disconnects without a closing handshake.
    finally:
        room.discard(websocket)


async def main(certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    async with serve(
        handler, "127.0.0.1", 0, ssl=context, compression=None, ping_interval=None
    ) as server:
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
