"""Parsers for origins, the public URL and the ``Host`` header."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

__all__ = ["host_of", "origin_of", "parse_origin", "parse_public_url"]

#: The ports that are left out of an origin (RFC 6454, section 6.2).
_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(?i)(https?)://([^/?#@\s]+)(/[a-z0-9._~!$&'()*+,;=:@%/-]*)?")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


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
