"""The shared secret that a client needs to connect."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from urllib.parse import parse_qs

from ..net import Refusal, Request

__all__ = ["TokenCheck", "bearer"]


def bearer(token: str) -> tuple[str, str]:
    """The header in which a client sends its token (RFC 6750, section 2.1)."""
    return "Authorization", f"Bearer {token}"


class TokenCheck:
    """Admits requests with the token, in ``Authorization: Bearer`` or in the URL's ``?token=``.

    The second is for browsers, which cannot set a header. The token never appears in an
    answer or in the log. May be called from any thread.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def __call__(self, request: Request) -> None:
        """Raise :class:`Refusal` (401) unless ``request`` has the token."""
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        candidates = [shown.strip()] if scheme.lower() == "bearer" and shown.strip() else []
        candidates += parse_qs(request.query).get("token", [])
        # Compare each candidate in constant time: the time must not reveal how much of it
        # is right.
        if any([self._is_right(candidate) for candidate in candidates]):  # noqa: C419
            return
        # RFC 6750, section 3.1, has no error for a client that gave no token.
        text, challenge = (
            ("The token is wrong.", 'Bearer error="invalid_token"')
            if candidates
            else ("A token is required.", "Bearer")
        )
        raise Refusal(HTTPStatus.UNAUTHORIZED, text, [("WWW-Authenticate", challenge)])

    def _is_right(self, candidate: str) -> bool:
        return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self._token)
