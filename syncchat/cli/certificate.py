"""The certificate of a server: its TLS context, and why it cannot be used."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

from .settings import reason

__all__ = ["certificate_complaint", "lacks_only_the_key", "server_context"]

#: Bytes of a file that are searched, at most.
_LARGEST = 1024 * 1024


def server_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """The TLS context of the server; None: no TLS. Raises OSError (``ssl.SSLError`` is one)."""
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # OpenSSL would ask for a passphrase at the terminal, and block a reload.
    context.load_cert_chain(cert, key, password="")
    return context


def lacks_only_the_key(cert: str) -> bool:
    """Whether the file contains a certificate but no private key."""
    try:
        return _holds(cert, "CERTIFICATE") and not _holds(cert, "PRIVATE KEY")
    except OSError:
        return False


def certificate_complaint(cert: str, key: str | None, failure: OSError) -> str:
    """Why the certificate and its key cannot be used; OpenSSL's own errors rarely say it."""
    if isinstance(failure, ssl.SSLError) and failure.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key or cert} does not match the certificate"
    try:
        if not _holds(cert, "CERTIFICATE"):
            return "it contains no PEM certificate"
    except OSError as exc:
        return reason(exc)
    try:
        if not _holds(key or cert, "PRIVATE KEY"):
            return f"{key or cert} contains no PEM private key"
        is_locked = _has(
            key or cert, "-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED"
        )
    except OSError as exc:
        return f"{key}: {reason(exc)}"
    locked = f"the key in {key or cert} has a passphrase: remove it with openssl pkey"
    return locked if is_locked else "OpenSSL cannot read it or its key"


def _holds(file: str, what: str) -> bool:
    """Whether a file has a PEM section whose label ends in ``what`` (RFC 7468). Raises OSError."""
    return _has(file, rf"-----BEGIN [A-Z0-9 ]*{what}-----")


def _has(file: str, pattern: str) -> bool:
    with Path(file).open("rb") as stream:
        # A device has no end.
        return re.search(pattern.encode(), stream.read(_LARGEST)) is not None
