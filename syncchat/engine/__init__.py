"""Engines, which number and store messages: one interface, and its implementations."""

from collections.abc import Callable, Iterator

from .interface import (
    PAGE_BYTES,
    Appended,
    Deliver,
    Delivery,
    Draft,
    Engine,
    Entered,
    Kind,
    Live,
    LiveEvent,
    Log,
    Message,
    Page,
    Position,
    Presence,
    Retention,
    Tail,
)
from .memory import MemoryEngine
from .sqlite import SqliteEngine

__all__ = [
    "PAGE_BYTES",
    "Appended",
    "Deliver",
    "Delivery",
    "Draft",
    "Engine",
    "Entered",
    "Kind",
    "Live",
    "LiveEvent",
    "Log",
    "MemoryEngine",
    "Message",
    "Page",
    "Position",
    "Presence",
    "Retention",
    "SqliteEngine",
    "Tail",
    "check_engine",
    "open_engine",
]


def check_engine(name: str) -> None:
    """Raise :class:`ValueError` if ``name`` names no engine."""
    scheme, _, rest = name.partition(":")
    if (scheme == "memory" and not rest) or (scheme == "sqlite" and rest):
        return
    raise ValueError(f"{name!r} is not an engine: it must be memory: or sqlite:PATH")


def open_engine(
    name: str,
    retention: Retention,
    on_commit: Callable[[float], None] | None = None,
    valid_names: Callable[[str], Iterator[str]] | None = None,
) -> Engine:
    """Open the engine ``name``: ``memory:``, or ``sqlite:PATH``.

    ``on_commit`` is called with the seconds of each transaction, if the engine has transactions.
    ``valid_names``, called with the old name of a room that an earlier version stored, yields
    the names that the room may have now, the best first, without end. The room gets the first
    free one.

    Raises :class:`ValueError` for any other name, and :class:`~syncchat.errors.EngineUnusable` if
    the file cannot be used.
    """
    check_engine(name)
    scheme, _, rest = name.partition(":")
    if scheme == "memory":
        return MemoryEngine(retention)
    return SqliteEngine(rest, retention, on_commit, valid_names)
