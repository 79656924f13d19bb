"""Drafts for the tests of engines."""

from __future__ import annotations

from syncchat.engine import Candidate, Draft

__all__ = ["named", "texts"]


def texts(count: int, first: int = 1) -> list[Draft]:
    return [Draft("ann", f"message {number}") for number in range(first, first + count)]


def named(*nicks: str) -> list[Candidate]:
    """Nicks to claim."""
    return [Candidate(nick) for nick in nicks]
