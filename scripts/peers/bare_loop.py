"""Not a chat, but the lower bound for any Python server: recv, then a loop over the sockets.

It reads what one client sends, builds one string of bytes, and sends it to each socket
of the room. It checks nothing, and one slow reader blocks it.
"""

import base64
import hashlib
import selectors
import socket
from collections import defaultdict

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

selector = selectors.DefaultSelector()
rooms: defaultdict[bytes, list[socket.socket]] = defaultdict(list)


def open_client(listening: socket.socket) -> None:
    client, (host, port) = listening.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = client.recv(65536)
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - RFC 6455
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    room = rooms[head.split(b" ", 2)[1]]
    room.append(client)
    selector.register(client, selectors.EVENT_READ, (room, f"{host}:{port}: ".encode()))


def header(size: int) -> bytes:
    if size < 126:
        return bytes([0x81, size])
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


def read_texts(client: socket.socket) -> list[bytes]:
    """Return the payloads of the frames; an empty list at the end of the connection.

    Expects complete masked frames whose mask is zero, as the load sends them.
    """
    data = client.recv(65536)
    texts = []
    while data:
        size, at = data[1] & 0x7F, 6
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 8
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 14
        while len(data) < at + size:
            data += client.recv(at + size - len(data))
        texts.append(data[at : at + size])
        data = data[at + size :]
    return texts


with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
    print(f"listening on port {listening.getsockname()[1]}", flush=True)
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for ready, _ in selector.select():
            if ready.data is None:
                open_client(listening)
                continue
            client = ready.fileobj
            assert isinstance(client, socket.socket)
            room, prefix = ready.data
            texts = read_texts(client)
            if not texts:
                selector.unregister(client)
                room.remove(client)
                continue
            frames = b"".join(header(len(prefix) + len(text)) + prefix + text for text in texts)
            for member in room:
                member.sendall(frames)
