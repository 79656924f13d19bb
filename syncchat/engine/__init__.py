"""Where messages are numbered and kept: one interface, an engine for each need."""

from .interface import (
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
    "open_engine",
]


def open_engine(name: str, keep: Keep) -> Engine:
    """The engine that ``name`` asks for: ``memory:``, or ``sqlite:PATH``.

    Raises :class:`ValueError` for any other name, and :class:`EngineUnusable`
    where what it names cannot be used.
    """
    scheme, colon, rest = name.partition(":")
    if scheme == "memory" and not rest:
        return MemoryEngine(keep)
    if scheme == "sqlite" and colon and rest:
        return SqliteEngine(rest, keep)
    raise ValueError(f"{name!r} is no engine: it is memory: or sqlite:PATH")
