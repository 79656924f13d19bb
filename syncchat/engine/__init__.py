"""Where messages are numbered and kept: one interface, an engine for each need."""

from collections.abc import Callable, Iterator

from .interface import (
    PAGE_BYTES,
    Deliver,
    Draft,
    Engine,
    EngineFailed,
    EngineUnusable,
    Entry,
    Keep,
    Kind,
    Live,
    Page,
    Position,
)
from .memory import MemoryEngine
from .sqlite import SqliteEngine

__all__ = [
    "PAGE_BYTES",
    "Deliver",
    "Draft",
    "Engine",
    "EngineFailed",
    "EngineUnusable",
    "Entry",
    "Keep",
    "Kind",
    "Live",
    "MemoryEngine",
    "Page",
    "Position",
    "SqliteEngine",
    "check_engine",
    "open_engine",
]


def check_engine(name: str) -> None:
    """Raise :class:`ValueError` for what names no engine."""
    scheme, _, rest = name.partition(":")
    if (scheme == "memory" and not rest) or (scheme == "sqlite" and rest):
        return
    raise ValueError(f"{name!r} is no engine: it is memory: or sqlite:PATH")


def open_engine(
    name: str,
    keep: Keep,
    on_commit: Callable[[float], None] | None = None,
    valid_names: Callable[[str], Iterator[str]] | None = None,
) -> Engine:
    """The engine that ``name`` asks for: ``memory:``, or ``sqlite:PATH``.

    ``on_commit`` is called with the seconds of each transaction, if the engine has some.
    ``valid_names`` yields the names that a room may have whose log an earlier version kept, without
    end, the best first; such a room gets the first that is free.

    Raises :class:`ValueError` for any other name, and :class:`EngineUnusable`
    where what it names cannot be used.
    """
    check_engine(name)
    scheme, _, rest = name.partition(":")
    if scheme == "memory":
        return MemoryEngine(keep)
    return SqliteEngine(rest, keep, on_commit, valid_names)
