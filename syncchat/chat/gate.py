"""Who comes in: people with tokens of their own, and guests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ..net import Request, TokenCheck, shown_tokens
from .people import TOKEN_PREFIX, People, Person

__all__ = ["Gate", "Guests"]

#: Whether guests, who show no token of their own, come in; ``read``: they may only read.
Guests = Literal["yes", "no", "read"]


class Gate(TokenCheck):
    """Admits people, and guests if ``guests`` lets them in. Usable from any thread.

    If there are ``tokens``, a guest has to show one of them. ``people`` gives those who have
    tokens of their own now.
    """

    def __init__(self, guests: Guests, tokens: Sequence[str], people: Callable[[], People]) -> None:
        super().__init__(*tokens)
        self._guests = guests
        self._people = people

    def admits(self, request: Request) -> bool:
        """Whether the sender of ``request`` may come in."""
        if self.person(request) is not None:
            return True
        if self._guests == "no":
            return False
        if self:
            return super().admits(request)
        # Somebody whose token is not valid any more must not become a guest unawares.
        return not any(token.startswith(TOKEN_PREFIX) for token in shown_tokens(request))

    def person(self, request: Request) -> Person | None:
        """The person whose token ``request`` shows; None: it is a guest's."""
        return self._people().holder(shown_tokens(request))

    def only_reads(self, request: Request) -> bool:
        """Whether the sender of ``request`` is a guest that may not speak anywhere."""
        return self._guests == "read" and self.person(request) is None
