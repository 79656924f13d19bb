"""TLS as bytes in, bytes out; the socket is somebody else's.

One ``SSLObject`` between two memory buffers, used under its stream's lock: a
reader and a writer never meet inside OpenSSL, which has crashed programs that
shared an ``SSLSocket`` between threads (cpython#76714).
"""

from __future__ import annotations

import contextlib
import ssl

__all__ = ["TLS", "NotTLS", "is_record", "tls_reason"]

_READ_SIZE = 65536

#: The content types of a record, and the first byte of its version (RFC 8446, section 5.1).
_CONTENT_TYPES, _MAJOR_VERSION = range(20, 24), b"\x03"


class NotTLS(ConnectionError):
    """The peer's first bytes are of another protocol."""


def is_record(data: bytes) -> bool:
    """Whether a TLS record may begin so. ``data`` holds one byte at least."""
    return data[0] in _CONTENT_TYPES and data[1:2] in (b"", _MAJOR_VERSION)


class TLS:
    """One end of a TLS connection. For one thread at a time.

    Every method may raise :class:`ssl.SSLError`; what is to be sent then, an
    alert that tells the peer why, is still to be had from :meth:`outgoing`.
    """

    __slots__ = ("_begun", "_incoming", "_object", "_outgoing")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        #: The peer has begun to speak.
        self._begun = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )

    def handshake(self, received: bytes) -> bool:
        """Go on with the handshake. True: it is done.

        Raises :class:`NotTLS` where ``received`` begins with something else.
        """
        if received and not self._begun:
            self._begun = True
            if not is_record(received):
                raise NotTLS("it speaks no TLS")
        self._incoming.write(received)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """``data`` as it goes over the wire, all of it."""
        # The outgoing buffer takes any amount, so nothing is left over.
        self._object.write(data)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> tuple[bytes, bool]:
        """What ``received`` says, and whether the peer has said that no more comes.

        ``b""`` for part of a record. It may call for an answer: :meth:`outgoing`.
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
        """The alert that says that no more comes (RFC 8446, section 6.1)."""
        # It would wait for the peer's, or has seen the connection fail.
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self._outgoing.read()

    def outgoing(self) -> bytes:
        """What TLS itself has to say."""
        return self._outgoing.read()


def tls_reason(exc: OSError) -> str:
    """Why a handshake failed, in words and without OpenSSL's file and line."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return exc.reason.lower().replace("_", " ")
    return str(exc)
