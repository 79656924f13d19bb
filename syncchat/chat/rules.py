"""What operators have decided: bans, mutes, topics, rooms that are read-only."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["KINDS", "Rules"]

#: The kinds of the records.
KINDS = ("ban", "mute", "topic", "motd", "read_only", "op", "redacted")


class Rules:
    """All decisions, as they are in the records. Immutable; usable from any thread."""

    def __init__(self, records: Mapping[str, Mapping[str, bytes]]) -> None:
        del records
