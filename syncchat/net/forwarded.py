"""A trusted proxy's headers about its client: ``X-Forwarded-*`` and ``Forwarded`` (RFC 7239)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .address import Address

__all__ = ["LOOPBACK", "Client", "TrustedProxies", "parse_network"]

#: The networks from which a proxy on the same machine connects.
LOOPBACK = ("127.0.0.0/8", "::1/128")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: A ``name=value`` of a ``Forwarded`` header, which may be empty, and its separator.
#: The characters ``:[]`` should be in quotes, but often are not.
_PAIR = re.compile(
    r"""[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=
        (?:([!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+)|"((?:[^"\\]|\\.)*)"))?[ \t]*([,;]|\Z)""",
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")

#: A node (RFC 7239, section 6): an IP address, ``unknown`` or an obfuscated
#: identifier; and its port.
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}|_[0-9A-Za-z._-]+))?")
_UNKNOWN = re.compile(r"(?i)unknown|_[0-9a-z._-]+")

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")

_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a trusted proxy."""

    #: The client's address. If the proxy names no port, that of the proxy's connection.
    address: Address
    #: The scheme of the client's request to the proxy, ``http`` or ``https``; None if unknown.
    scheme: str | None = None
    #: The ``Host`` header of that request; None if unknown.
    host: str | None = None


def parse_network(text: str) -> Network:
    """An IP address, or a network in CIDR notation. Raises :class:`ValueError`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address or a network such as 10.0.0.0/8") from None


class TrustedProxies:
    """The networks of the proxies whose forwarding headers count. Immutable."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises :class:`ValueError` for an invalid network."""
        self._networks = [parse_network(network) for network in networks]

    def trusts(self, host: str) -> bool:
        """Whether ``host``, an IP address, is that of a trusted proxy."""
        return bool(self._networks) and self._contains(_address(host))

    def client_of(self, headers: Sequence[tuple[bytes, bytes]], proxy: Address) -> Client:
        """The client whose request the trusted ``proxy`` has forwarded.

        ``headers`` are the request's headers with lower-case names. The client is the
        rightmost address that is not a trusted proxy's: the client may have forged
        the addresses to the left of it. Without such headers, the client is
        ``proxy``. Raises :class:`ValueError` for headers that are malformed or
        contradict each other.
        """
        items = map(str.strip, _joined(headers, b"x-forwarded-for").split(","))
        nodes = [item for item in items if item]
        elements = _elements(_joined(headers, b"forwarded"))
        address, _ = self._nearest(nodes, proxy)
        if elements:
            told, index = self._nearest([each.get("for", "unknown") for each in elements], proxy)
            if not nodes:
                element = elements[index]
                return Client(told, _scheme(element.get("proto")), _host(element.get("host")))
            if told[0] != address[0]:
                # The proxy sets only one of the headers; the client may have forged the other.
                raise ValueError("Forwarded and X-Forwarded-For name different clients")
        # The nearest proxy has added the last item.
        scheme, host = (
            _joined(headers, name).rpartition(",")[2].strip()
            for name in (b"x-forwarded-proto", b"x-forwarded-host")
        )
        return Client(address, _scheme(scheme), _host(host))

    def _nearest(self, nodes: Sequence[str], proxy: Address) -> tuple[Address, int]:
        """The client's address among ``nodes``, and its index. The nearest node is last."""
        found, index = proxy, 0
        for index in reversed(range(len(nodes))):
            node = _node(nodes[index])
            if node is None:
                # The node is unknown: use the address of the proxy that reports it.
                break
            address, port = node
            found = str(address), port or proxy[1]
            if not self._contains(address):
                break
        return found, index

    def _contains(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _node(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int | None] | None:
    """The address and port of a node; None for an unknown node.

    The port is None if it is unknown. Raises :class:`ValueError`.
    """
    if text.count(":") > 1 and not text.startswith("["):
        # X-Forwarded-For has IPv6 addresses without brackets.
        text = f"[{text}]"
    match = _NODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is not an address")
    if match[2] is not None and _UNKNOWN.fullmatch(match[2]):
        return None
    try:
        address = _address(match[1] or match[2])
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not an address") from None
    port = int(match[3]) if match[3] is not None and match[3].isdigit() else None
    return address, port if port is not None and 0 < port <= _MAX_PORT else None


def _joined(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> str:
    """The values of all headers with this name, joined to one list (RFC 9110, section 5.3)."""
    return ",".join(value.decode("latin-1") for each, value in headers if each == name)


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of a ``Forwarded`` header. The nearest proxy's element is last."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at <= len(text):
        pair = _PAIR.match(text, at)
        if pair is None or (pair[1] or "").lower() in elements[-1]:
            raise ValueError(f"{text[:60]!r} is not a valid Forwarded header")
        if pair[1] is not None:
            value = pair[2] if pair[2] is not None else _ESCAPED.sub(r"\1", pair[3])
            elements[-1][pair[1].lower()] = value
        if pair[4] == ",":
            elements.append({})
        at = pair.end() if pair[4] else len(text) + 1
    return [element for element in elements if element]


def _scheme(text: str | None) -> str | None:
    if not text:
        return None
    scheme = _SCHEMES.get(text.lower())
    if scheme is None:
        raise ValueError(f"{text[:60]!r} is neither http nor https")
    return scheme


def _host(text: str | None) -> str | None:
    if not text:
        return None
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a host")
    return text
