"""A chat on picows, whose protocol and transport are written in Cython."""

import asyncio
import ssl
import sys
from collections import defaultdict

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

rooms: defaultdict[bytes, set[WSTransport]] = defaultdict(set)


class Member(WSListener):
    def __init__(self, path: bytes) -> None:
        self.room = rooms[path]
        self.relays = path == b"/relay"
        self.prefix = ""

    def on_ws_connected(self, transport: WSTransport) -> None:
        host, port = transport.underlying_transport.get_extra_info("peername")[:2]
        self.prefix = "" if self.relays else f"{host}:{port}: "
        self.room.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            text = f"{self.prefix}{frame.get_payload_as_utf8_text()}".encode()
            for member in self.room:
                member.send(WSMsgType.TEXT, text)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.room.discard(transport)


def member_for(request: WSUpgradeRequest) -> Member:
    return Member(bytes(request.path))


async def main(certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await ws_create_server(member_for, "127.0.0.1", 0, ssl=context)
    print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
