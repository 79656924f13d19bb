"""The access policy: which requests a server accepts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

from .address import Address, are_loopback, host_of
from .forwarded import TrustedProxies
from .http import Refusal, Request

__all__ = ["AccessPolicy", "Authorize"]

#: A check by the program: raises :class:`Refusal` to refuse the client.
Authorize = Callable[[Request], None]


class AccessPolicy:
    """The checks of an opening handshake. Usable from any thread.

    A browser lets any page open a WebSocket to any host, and names the page's
    origin in ``Origin`` (RFC 6455, section 10.2). The origin must be the server's own
    host or one of ``origins``. Other programs send no ``Origin``.

    A server on loopback accepts only its own names in ``Host``. Another name is
    that of a web page whose name resolves to this machine (DNS rebinding), and then
    ``Origin`` proves nothing.
    """

    def __init__(
        self,
        host: str | None,
        addresses: Iterable[Address],
        origins: Sequence[str],
        authorize: Authorize | None,
        proxies: TrustedProxies | None = None,
        *,
        secure: bool = False,
    ) -> None:
        hosts = (host_of(origin.partition("//")[2]) for origin in origins)
        self._own_names = {(host or "").lower(), *hosts}
        self._loopback_only = are_loopback(addresses)
        self._origins = frozenset(origins)
        self._authorize = authorize
        self._secure = secure
        self.proxies = proxies or TrustedProxies()
        #: Whether ``authorize`` is called, which may block.
        self.asks = authorize is not None

    def identify(self, request: Request) -> Request:
        """The request with the client's address, scheme and host, also behind a trusted proxy.

        Raises :class:`Refusal` for wrong forwarding headers.
        """
        scheme = "https" if self._secure else "http"
        proxy = request.remote_address
        if not self.proxies.trusts(proxy[0]):
            return replace(request, scheme=scheme) if self._secure else request
        try:
            client = self.proxies.client_of(request.raw_headers, proxy)
        except ValueError as exc:
            text = f"Invalid forwarding headers: {exc}."
            raise Refusal(HTTPStatus.BAD_REQUEST, text) from exc
        return replace(
            request,
            remote_address=client.address,
            scheme=client.scheme or scheme,
            host=client.host or request.host,
        )

    def check_host(self, request: Request) -> None:
        """Raise :class:`Refusal` if ``Host`` is not a name of this server (loopback only)."""
        if self._loopback_only and not self._is_own_name(host_of(request.host)):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "Host not allowed. Behind a proxy, set the server's public URL (--public-url).",
            )

    def check(self, request: Request) -> None:
        """Raise :class:`Refusal` if the host, the origin or ``authorize`` forbids the request."""
        self.check_host(request)
        origin = request.headers.get("origin")
        if origin is not None and not self._is_welcome(origin.lower(), request.host.lower()):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "Origin not allowed. Allow it (--origin), or set the public"
                " URL of the server (--public-url).",
            )
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
        if name in self._own_names or name == "localhost" or name.endswith(".localhost"):
            return True
        if "." not in name.rstrip(".") and ":" not in name:
            # A name without a dot cannot be registered, so it is no web page's name.
            return True
        try:
            # An IP address is not resolved, so it is safe from DNS rebinding.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
