"""Who may come in, as far as the request tells."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from .address import Address, is_loopback
from .http import Refusal, Request

__all__ = ["Admission", "Authorize", "parse_origin"]

#: A server's own say: raises :class:`Refusal` to turn a client away.
Authorize = Callable[[Request], None]

#: The ports that are left out of an origin (RFC 6454, section 6.2).
_DEFAULT_PORTS = {"http": 80, "https": 443}

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


def parse_origin(text: str) -> str:
    """The origin that ``text`` names, as browsers write it: lower case, no default port.

    ``text`` is ``scheme://host[:port]`` with ``http`` or ``https``; a slash may
    follow. Raises :class:`ValueError`.
    """
    if text.strip() == "*":
        raise ValueError(
            "'*' would let every web page join: name each origin, like https://chat.example.org"
        )
    mistake = ValueError(
        f"{text!r} is no origin: an origin is http:// or https://, a host, a port if it is not"
        " the usual one, and nothing else, like https://chat.example.org:8443"
    )
    match = re.fullmatch(r"(https?)://([^/?#@\s]+)/?", text, re.IGNORECASE)
    if match is None:
        raise mistake
    try:
        parts = urlsplit(f"//{match[2]}")
        port, host = parts.port, _host_in_url(parts.hostname or "")
    except ValueError:
        raise mistake from None
    scheme = match[1].lower()
    if port == 0:
        raise mistake
    return f"{scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}")


def _host_in_url(host: str) -> str:
    """A host as a browser writes it into a URL. Raises :class:`ValueError`."""
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    # UnicodeError is a ValueError.
    name = host.encode("idna").decode("ascii").lower()
    if not _NAME.fullmatch(name):
        raise ValueError(host)
    return name


class Admission:
    """The checks of an opening handshake. From any thread.

    Browsers let any page open a WebSocket to any host, and tell where the page
    is from in ``Origin`` (RFC 6455, section 10.2). It must be the server's own
    host, or one of ``origins``. Other programs send none.

    A server that is bound to loopback is called by its own names only: another
    name in ``Host`` is a page's that has had its name resolved anew, to this
    machine (DNS rebinding), and then ``Origin`` proves nothing.
    """

    def __init__(
        self,
        host: str | None,
        addresses: Iterable[Address],
        origins: Sequence[str],
        authorize: Authorize | None,
    ) -> None:
        self._own_name = (host or "").lower()
        self._loopback_only = all(
            is_loopback(address.partition("%")[0]) for address, _ in addresses
        )
        self._origins = frozenset(origins)
        self._authorize = authorize
        #: Whether the program has a say, which may take its time.
        self.asks = authorize is not None

    def check_host(self, request: Request) -> None:
        """Raise :class:`Refusal` for who calls the server by a name that is not its own."""
        if self._loopback_only and not self._is_own_name(_host_of(request.host)):
            raise Refusal(HTTPStatus.FORBIDDEN, "This server does not go by that name.")

    def check(self, request: Request) -> None:
        """Raise :class:`Refusal` for who may not come in."""
        self.check_host(request)
        origin = request.headers.get("origin")
        if origin is not None and not self._is_welcome(origin.lower(), request.host.lower()):
            raise Refusal(HTTPStatus.FORBIDDEN, "Pages from that origin are not served.")
        if self._authorize is not None:
            self._authorize(request)

    def _is_welcome(self, origin: str, host: str) -> bool:
        if origin.rstrip("/") in self._origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        default = {"http": ":80", "https": ":443"}.get(parts.scheme)
        if default is None:
            return False
        return parts.netloc.removesuffix(default) == host.removesuffix(default)

    def _is_own_name(self, name: str) -> bool:
        if name in (self._own_name, "localhost") or name.endswith(".localhost"):
            return True
        if "." not in name.rstrip(".") and ":" not in name:
            # A name without a dot is nobody's to register.
            return True
        try:
            # Nor does an address need a resolver.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _host_of(header: str) -> str:
    """The host of a ``Host`` header, without its port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
