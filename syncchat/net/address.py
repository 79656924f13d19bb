"""How an address is written: ``127.0.0.1:2000``, ``[::1]:2000``."""

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


def are_loopback(addresses: Iterable[Address]) -> bool:
    """Whether only this machine can connect to them; they may have zones."""
    return all(is_loopback(host.partition("%")[0]) for host, _ in addresses)


def is_wildcard(address: str) -> bool:
    """Whether it stands for every address of the machine: ``0.0.0.0``, ``::``."""
    return ipaddress.ip_address(address.partition("%")[0]).is_unspecified


def route_to(remote: Address) -> str | None:
    """The address of this machine from which it would connect to ``remote``; None: it cannot.

    Connecting a datagram socket only asks the system for its route: nothing is sent.
    """
    family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(remote)
            return str(probe.getsockname()[0])
    except OSError:
        return None
