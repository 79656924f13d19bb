"""How people reach a server: the URL that its log tells."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from .net import Address, format_address
from .net.address import is_wildcard, route_to

__all__ = ["join_command", "people_url"]

#: Addresses in other networks, which are for documentation (RFC 5737, RFC 3849).
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
    """The URL of the chat's page, or without ``web`` the one for clients.

    ``host`` is what the server was told to listen at, ``addresses`` where it
    listens; ``secure`` that it speaks TLS. A host that stands for every address
    becomes one by which other machines can reach this one. ``public_url`` is as
    :func:`syncchat.net.origin.parse_public_url` returns it.
    """
    url = public_url
    if url is None:
        own, port = addresses[0]
        name = _own_name(own, secure=secure) if is_wildcard(own) else (host or own).strip("[]")
        url = f"{'https' if secure else 'http'}://{format_address((name, port))}/"
    return url if web else _for_clients(url)


def join_command(url: str) -> str:
    """The command that joins the chat at what :func:`people_url` has returned."""
    url = _for_clients(url)
    short = _SHORT.fullmatch(url)
    return f"syncchat {url if short is None else short[1]}"


def _for_clients(url: str) -> str:
    """``ws:`` for ``http:``, ``wss:`` for ``https:``."""
    return re.sub("^http", "ws", url)


def _own_name(wildcard: str, *, secure: bool) -> str:
    """A name or an address of this machine."""
    # A certificate names hosts, mostly, and no addresses.
    if not secure:
        address = route_to(_ELSEWHERE[ipaddress.ip_address(wildcard).version])
        if address is not None:
            return address
    return socket.gethostname()
