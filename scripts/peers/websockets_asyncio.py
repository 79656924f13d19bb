"""A chat on websockets' asyncio server, with its own broadcast()."""

import asyncio
import signal
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

connections: set[ServerConnection] = set()


async def handler(websocket: ServerConnection) -> None:
    host, port = websocket.remote_address[:2]
    connections.add(websocket)
    try:
        async for message in websocket:
            broadcast(connections, f"{host}:{port}: {message!s}")
    except ConnectionClosed:
        pass  # The load hangs up without a closing handshake.
    finally:
        connections.discard(websocket)


async def main(port: int) -> None:
    async with serve(handler, "127.0.0.1", port, compression=None, ping_interval=None) as server:
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        stop = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)
        await stop


asyncio.run(main(int(sys.argv[1])))
