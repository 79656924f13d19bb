"""The access policy: which requests a server accepts, and from whom they come.

It checks the host, the origin and the token, and reads a trusted proxy's headers about its
client: ``X-Forwarded-*`` and ``Forwarded`` (RFC 7239).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from .address import (
    Address,
    are_loopback,
    host_of,
    origin_of,
    parse_origin,
    parse_public_url,
)
from .http import Refusal, Request

__all__ = [
    "LOOPBACK",
    "AccessPolicy",
    "Authorize",
    "ForwardedClient",
    "TokenCheck",
    "TrustedProxies",
    "bearer",
    "parse_access",
    "parse_network",
    "shown_tokens",
]

#: A check by the program: raises :class:`Refusal` to refuse the client.
Authorize = Callable[[Request], None]


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
        self._host, self._authorize, self._secure = host, authorize, secure
        self._own_names = {(host or "").lower(), *hosts}
        self._loopback_only = are_loopback(addresses)
        self._origins = frozenset(origins)
        self.proxies = proxies or TrustedProxies()
        #: Whether a check by the program is called, which may block.
        self.asks = authorize is not None and not isinstance(authorize, TokenCheck)

    def changed(self, origins: Sequence[str], proxies: TrustedProxies) -> AccessPolicy:
        """The same policy with other origins and proxies."""
        policy = AccessPolicy(
            self._host, (), origins, self._authorize, proxies, secure=self._secure
        )
        policy._loopback_only = self._loopback_only
        return policy

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
            name = request.host if _HOST.fullmatch(request.host) else "another name"
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                f"Host not allowed: this server does not answer to {name}. If a proxy leads here,"
                " the operator must start the server with --public-url and the URL that people"
                " open, such as https://chat.example.org.",
            )

    def check(self, request: Request) -> None:
        """Raise :class:`Refusal` if the host, the origin or ``authorize`` forbids the request."""
        self.check_host(request)
        for name, value in request.raw_headers:
            origin = value.decode("latin-1").lower() if name == b"origin" else ""
            if name == b"origin" and not self._is_welcome(origin, request.host.lower()):
                raise Refusal(HTTPStatus.FORBIDDEN, _unwelcome(origin))
        if self._authorize is not None and not _is_preflight(request):
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


def _unwelcome(origin: str) -> str:
    """What is wrong with a request of a page of ``origin``, and what the operator must set."""
    try:
        origin = parse_origin(origin[:300])
    except ValueError:
        return "Origin not allowed: it is no http:// or https:// origin."
    return (
        f"Origin not allowed: this server does not accept pages of {origin}. If people open the"
        f" chat there, the operator must start the server with --public-url {origin}; for another"
        f" site's page, with --origin {origin}."
    )


def _is_preflight(request: Request) -> bool:
    """Whether a browser asks what a page may send. It does not show the page's token."""
    return request.method == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in request.raw_headers
    )


def bearer(token: str) -> tuple[str, str]:
    """The header in which a client sends its token (RFC 6750, section 2.1)."""
    return "Authorization", f"Bearer {token}"


class TokenCheck:
    """Admits requests with a token: see :func:`shown_tokens`. Any of the ``tokens`` is right.

    A token never appears in an answer or in the log. May be called from any thread.
    """

    def __init__(self, *tokens: str) -> None:
        self._tokens = [token.encode() for token in tokens]

    def __bool__(self) -> bool:
        """Whether there is a token that is right."""
        return bool(self._tokens)

    def replace(self, *tokens: str) -> None:
        """Admit with these tokens from now on, instead of the earlier ones."""
        self._tokens = [token.encode() for token in tokens]

    def admits(self, request: Request) -> bool:
        """Whether ``request`` has a right token."""
        # Compare each candidate in constant time: the time must not reveal how much of it
        # is right.
        return any([self._is_right(candidate) for candidate in shown_tokens(request)])  # noqa: C419

    def __call__(self, request: Request) -> None:
        """Raise :class:`Refusal` (401) unless ``request`` has a right token."""
        if self.admits(request):
            return
        # RFC 6750, section 3.1, has no error for a client that gave no token.
        text, challenge = (
            ("The token is wrong.", 'Bearer error="invalid_token"')
            if shown_tokens(request)
            else ("A token is required.", "Bearer")
        )
        raise Refusal(HTTPStatus.UNAUTHORIZED, text, [("WWW-Authenticate", challenge)])

    def _is_right(self, candidate: str) -> bool:
        shown = candidate.encode("utf-8", "surrogatepass")
        return any([hmac.compare_digest(shown, token) for token in self._tokens])  # noqa: C419


def shown_tokens(request: Request) -> list[str]:
    """The tokens that a request shows.

    In ``Authorization: Bearer``, which the handshake also makes of a subprotocol entry
    ``syncchat.token.TOKEN``, for browsers, which cannot set a header; and in the URL's
    ``?token=``, which proxies and servers often log.
    """
    found: list[str] = []
    for name, value in request.raw_headers:
        if name == b"authorization":
            scheme, _, shown = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and shown.strip():
                found.append(shown.strip())
    return found + parse_qs(request.query).get("token", [])


@dataclass(frozen=True, slots=True)
class ForwardedClient:
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

    def client_of(self, headers: Sequence[tuple[bytes, bytes]], proxy: Address) -> ForwardedClient:
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
                return ForwardedClient(
                    told, _scheme(element.get("proto")), _host(element.get("host"))
                )
            if told[0] != address[0]:
                # The proxy sets only one of the headers; the client may have forged the other.
                raise ValueError("Forwarded and X-Forwarded-For name different clients")
        # The nearest proxy has added the last item.
        scheme, host = (
            _joined(headers, name).rpartition(",")[2].strip()
            for name in (b"x-forwarded-proto", b"x-forwarded-host")
        )
        return ForwardedClient(address, _scheme(scheme), _host(host))

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


def parse_access(
    origins: Sequence[str], public_url: str | None, trusted_proxies: Sequence[str] | None
) -> tuple[list[str], TrustedProxies]:
    """The allowed origins and the proxies that these settings of a server mean.

    Raises :class:`ValueError` for an invalid one.
    """
    allowed = [parse_origin(origin) for origin in origins]
    if public_url is not None:
        allowed.append(origin_of(parse_public_url(public_url)))
        trusted_proxies = LOOPBACK if trusted_proxies is None else trusted_proxies
    return allowed, TrustedProxies(trusted_proxies or ())


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
