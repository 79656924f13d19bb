"""Network addresses: their text, like ``[::1]:2000``, and their kinds."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

__all__ = [
    "Address",
    "address_of",
    "are_loopback",
    "format_address",
    "is_loopback",
    "is_wildcard",
    "route_to",
]

#: Host and port of one end of a TCP connection.
Address = tuple[str, int]


def address_of(sockaddr: tuple[Any, ...]) -> Address:
    """Host and port of an address of the socket module.

    ``sockaddr`` has two items for IPv4 and four for IPv6; the IPv6 flow and scope
    are ignored.
    """
    return str(sockaddr[0]), int(sockaddr[1])


def format_address(address: Address) -> str:
    """``host:port``, an IPv6 host in brackets (RFC 3986, section 3.2.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether ``address`` is a loopback IP address without a zone. False for a name."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def are_loopback(addresses: Iterable[Address]) -> bool:
    """Whether only this machine can connect to ``addresses``, which may have zones."""
    return all(is_loopback(host.partition("%")[0]) for host, _ in addresses)


def is_wildcard(address: str) -> bool:
    """Whether ``address`` means every address of the machine: ``0.0.0.0`` or ``::``."""
    return ipaddress.ip_address(address.partition("%")[0]).is_unspecified


def route_to(remote: Address) -> str | None:
    """The local address that a connection to ``remote`` would use; None if there is no route.

    Sends nothing: the connect of a datagram socket only looks up the route.
    """
    family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(remote)
            return str(probe.getsockname()[0])
    except OSError:
        return None
