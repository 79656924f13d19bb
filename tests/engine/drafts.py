"""Drafts for the tests of engines."""

from __future__ import annotations

from syncchat.engine import Draft

__all__ = ["texts"]


def texts(count: int, first: int = 1) -> list[Draft]:
    return [Draft("ann", f"message {number}") for number in range(first, first + count)]
