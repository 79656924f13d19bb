"""How an address is written: ``127.0.0.1:2000``, ``[::1]:2000``."""

from __future__ import annotations

import ipaddress
from typing import Any

__all__ = ["Address", "address_of", "format_address", "is_loopback"]

#: Host and port of one end of a TCP connection.
Address = tuple[str, int]


def address_of(sockaddr: tuple[Any, ...]) -> Address:
    """Host and port of what the socket module calls an address.

    ``sockaddr`` has two items for IPv4 and four for IPv6, of which flow
    and scope are left out.
    """
    return str(sockaddr[0]), int(sockaddr[1])


def format_address(address: Address) -> str:
    """``host:port``, an IPv6 host in brackets (RFC 3986, section 3.2.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether it is an address of this machine's own, written without a zone; a name is none."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
