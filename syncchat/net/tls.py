"""TLS without a socket: bytes in, bytes out.

An ``SSLObject`` works between two memory buffers. The stream uses it under its
lock, so a reader and a writer are never in OpenSSL at the same time. Programs
that share an ``SSLSocket`` between threads have crashed there (cpython#76714).
"""

from __future__ import annotations

import contextlib
import ssl

__all__ = ["TLS", "NotTLS", "is_record", "tls_reason"]

_READ_SIZE = 65536

#: The content types of a record, and the first byte of its version (RFC 8446, section 5.1).
_CONTENT_TYPES, _MAJOR_VERSION = range(20, 24), b"\x03"


class NotTLS(ConnectionError):
    """The peer's first bytes are not TLS."""


def is_record(data: bytes) -> bool:
    """Whether ``data`` may be the beginning of a TLS record. It holds at least one byte."""
    return data[0] in _CONTENT_TYPES and data[1:2] in (b"", _MAJOR_VERSION)


class TLS:
    """One end of a TLS connection. Only one thread at a time may use it.

    The methods may raise :class:`ssl.SSLError`. Then :meth:`outgoing` returns the
    alert that tells the peer why.
    """

    __slots__ = ("_begun", "_incoming", "_object", "_outgoing")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        #: The peer has sent its first bytes.
        self._begun = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )

    def handshake(self, received: bytes) -> bool:
        """Continue the handshake. True: it is done.

        Raises :class:`NotTLS` if the peer's first bytes are not a TLS record.
        """
        if received and not self._begun:
            self._begun = True
            if not is_record(received):
                raise NotTLS("it does not speak TLS")
        self._incoming.write(received)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """The TLS records for all of ``data``."""
        # The outgoing buffer accepts any amount, so nothing is left over.
        self._object.write(data)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> tuple[bytes, bool]:
        """The decrypted data, and whether the peer has ended its side (close_notify).

        The data is ``b""`` for an incomplete record. TLS may have to answer: send
        :meth:`outgoing`.
        """
        self._incoming.write(received)
        pieces: list[bytes] = []
        try:
            while piece := self._object.read(_READ_SIZE):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(pieces), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(pieces), True

    def close_notify(self) -> bytes:
        """The alert that ends this side's data (RFC 8446, section 6.1)."""
        # unwrap() raises because the peer's alert is missing, or after a failure.
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self._outgoing.read()

    def outgoing(self) -> bytes:
        """The bytes of the TLS protocol that must be sent to the peer."""
        return self._outgoing.read()


def tls_reason(exc: OSError) -> str:
    """Why a handshake failed, as text without OpenSSL's file and line."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.lower().replace("_", " ")
    return str(exc)
