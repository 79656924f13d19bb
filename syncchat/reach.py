"""The URL at which people reach a server, for the server's log."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from .net import Address, format_address, is_wildcard, route_to

__all__ = ["join_command", "people_url"]

#: Addresses outside of this network, reserved for documentation (RFC 5737, RFC 3849).
_ELSEWHERE = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}

_SHORT = re.compile(r"ws://([^/]+:[0-9]+)/")


def people_url(
    host: str | None,
    addresses: Sequence[Address],
    *,
    secure: bool,
    web: bool,
    public_url: str | None,
) -> str:
    """The URL of the chat's web page; without ``web``, the URL for clients.

    ``host`` is the configured host, ``addresses`` are those at which the server
    listens; ``secure``: the server speaks TLS. A wildcard host is replaced by an
    address or name at which other machines can reach this one. ``public_url`` is a
    result of :func:`syncchat.net.origin.parse_public_url`.
    """
    url = public_url
    if url is None:
        own, port = addresses[0]
        name = _own_name(own, secure=secure) if is_wildcard(own) else (host or own).strip("[]")
        url = f"{'https' if secure else 'http'}://{format_address((name, port))}/"
    return url if web else _for_clients(url)


def join_command(url: str) -> str:
    """The command that joins the chat at ``url``, a result of :func:`people_url`."""
    url = _for_clients(url)
    short = _SHORT.fullmatch(url)
    return f"syncchat {url if short is None else short[1]}"


def _for_clients(url: str) -> str:
    """``url`` with ``ws:`` instead of ``http:``, or ``wss:`` instead of ``https:``."""
    return re.sub("^http", "ws", url)


def _own_name(wildcard: str, *, secure: bool) -> str:
    """An address of this machine; its host name if ``secure``, or without a route."""
    # Most certificates are for host names, not for addresses.
    if not secure:
        address = route_to(_ELSEWHERE[ipaddress.ip_address(wildcard).version])
        if address is not None:
            return address
    return socket.gethostname()
