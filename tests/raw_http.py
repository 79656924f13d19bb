"""Requests of HTTP, byte by byte, from any address of this machine."""

from __future__ import annotations

import socket

from tests.peer import PATIENCE, read_all, upgrade_request

__all__ = ["answered", "ask", "handshake", "request", "status"]


def request(
    path: str = "/", headers: str = "", host: str = "localhost", method: str = "GET"
) -> bytes:
    """A request after whose answer the server closes the connection."""
    closes = "Connection: close\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{closes}{headers}\r\n".encode()


def handshake(headers: str = "", host: str = "localhost", path: str = "/") -> bytes:
    return upgrade_request(path, headers).replace(b"Host: test", f"Host: {host}".encode())


def ask(port: int, data: bytes, source: str = "127.0.0.1") -> bytes:
    """The whole answer to a request from that address."""
    with socket.create_connection(
        ("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0)
    ) as sock:
        sock.sendall(data)
        return read_all(sock)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def answered(sock: socket.socket) -> int:
    """The status of an answer to a handshake."""
    return status(sock.recv(65536))
