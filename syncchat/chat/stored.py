"""Reads records: those that are damaged are left out, so that the others hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

__all__ = ["RecordReader"]

Value = TypeVar("Value")


class RecordReader:
    """Reads records, and collects which are damaged. For one thread at a time."""

    def __init__(self) -> None:
        #: Kind and key of each.
        self.damaged: set[tuple[str, str]] = set()

    def read(
        self,
        kind: str,
        records: Mapping[str, bytes],
        convert: Callable[[str, bytes], Value],
    ) -> dict[str, Value]:
        """What ``convert`` makes of each key and value.

        It raises :class:`ValueError` or an exception of msgspec for a damaged one.
        """
        found: dict[str, Value] = {}
        for key, value in records.items():
            try:
                found[key] = convert(key, value)
            except (msgspec.MsgspecError, ValueError, OverflowError, OSError):
                self.damaged.add((kind, key))
        return found
