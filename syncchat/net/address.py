"""Network addresses, origins and URLs: their text, like ``[::1]:2000``, and their kinds."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "Address",
    "address_of",
    "are_loopback",
    "format_address",
    "host_of",
    "is_loopback",
    "is_wildcard",
    "origin_of",
    "parse_origin",
    "parse_public_url",
    "route_to",
]

#: Host and port of one end of a TCP connection.
Address = tuple[str, int]

#: The ports that are left out of an origin (RFC 6454, section 6.2).
_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(?i)(https?)://([^/?#@\s]+)(/[a-z0-9._~!$&'()*+,;=:@%/-]*)?")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


def address_of(sockaddr: tuple[Any, ...]) -> Address:
    """Host and port of an address of the socket module.

    ``sockaddr`` has two items for IPv4 and four for IPv6; the IPv6 flow and scope
    are ignored. An IPv4-mapped address, as a socket for both gives it, is that of IPv4.
    """
    host = str(sockaddr[0])
    return host.removeprefix("::ffff:") if "." in host else host, int(sockaddr[1])


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


def parse_origin(text: str) -> str:
    """The origin in ``text`` as browsers write it: lower case, no default port.

    ``text`` is ``scheme://host[:port]`` with ``http`` or ``https``; a slash may
    follow. Raises :class:`ValueError`.
    """
    if text.strip() == "*":
        raise ValueError(
            "'*' would allow every web page: list each origin, such as https://chat.example.org"
        )
    try:
        origin, path = _split(text)
    except ValueError:
        path = None
    if path != "/":
        raise ValueError(
            f"{text!r} is not an origin: it must be http:// or https:// and a host, and may have a"
            " port, such as https://chat.example.org:8443"
        )
    return origin


def parse_public_url(text: str) -> str:
    """The URL in ``text``, with a slash at its end and its host as browsers write it.

    ``text`` is ``scheme://host[:port][/path]`` with ``http`` or ``https``.
    Raises :class:`ValueError`.
    """
    try:
        origin, path = _split(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a public URL: it must be http:// or https:// and a host, and may have"
            " a port and a path, such as https://example.org/chat/"
        ) from None
    return f"{origin}{path.rstrip('/')}/"


def origin_of(public_url: str) -> str:
    """The origin of ``public_url``, a result of :func:`parse_public_url`."""
    return "/".join(public_url.split("/", 3)[:3])


def host_of(authority: str) -> str:
    """The host of a ``Host`` header, without its port and brackets, in lower case."""
    authority = authority.lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _split(text: str) -> tuple[str, str]:
    """The origin and the path, by default ``/``. Raises :class:`ValueError`."""
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError(text)
    scheme = match[1].lower()
    parts = urlsplit(f"//{match[2]}")
    host, port = _host_in_url(parts.hostname or ""), parts.port
    if port == 0:
        raise ValueError(text)
    suffix = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{host}{suffix}", match[3] or "/"


def _host_in_url(host: str) -> str:
    """A host as a browser writes it into a URL. Raises :class:`ValueError`."""
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    # UnicodeError is a ValueError.
    name = host.encode("idna").decode("ascii").lower()
    if not _NAME.fullmatch(name):
        raise ValueError(host)
    return name
