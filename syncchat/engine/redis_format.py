"""How the Redis engine stores and publishes messages, and how it names keys and channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from ..errors import EngineFailed
from .interface import Appended, Draft, Kind, Message, Position

__all__ = [
    "Batch",
    "Entry",
    "Keys",
    "answers_of",
    "batch_of",
    "end_of",
    "entry_of",
    "messages_of",
    "numbered",
    "stored_messages",
]


class Entry(msgspec.Struct, array_like=True, gc=False):
    """A message as it is stored, without its offset."""

    time: float
    nick: str
    text: str
    kind: Kind
    nonce: str | None = None


class Batch(msgspec.Struct, array_like=True):
    """What Redis publishes: new messages of one time, or none at the beginning of an epoch."""

    epoch: str
    first: int
    last: int
    time: float
    #: The entries as JSON: they are decoded only if they are needed.
    entries: msgspec.Raw

    def messages(self, after: int) -> list[Message]:
        """The messages after an offset."""
        first = max(self.first, after + 1)
        return numbered(first, _entries.decode(self.entries)[first - self.first :])


_batch = msgspec.json.Decoder(Batch)
_entry = msgspec.json.Decoder(Entry)
_entries = msgspec.json.Decoder(list[Entry])
_encode = msgspec.json.Encoder().encode

#: Decodes what Redis publishes. From any thread.
batch_of: Callable[[bytes], Batch] = _batch.decode


def entry_of(draft: Draft) -> bytes:
    """A draft as JSON, without the bracket: the script puts the time in front."""
    return _encode((draft.nick, draft.text, draft.kind, draft.nonce))[1:]


def messages_of(first: int, entries: Sequence[bytes]) -> list[Message]:
    """The messages from the offset ``first`` on, as they are stored.

    Raises :class:`EngineFailed` for anything else.
    """
    try:
        return numbered(first, [_entry.decode(each) for each in entries])
    except msgspec.MsgspecError as exc:
        raise EngineFailed(f"a log in Redis has what is not a message: {exc}") from exc


def numbered(first: int, entries: Sequence[Entry]) -> list[Message]:
    """The messages from the offset ``first`` on."""
    return [
        Message(offset, e.time, e.nick, e.text, e.kind, e.nonce)
        for offset, e in enumerate(entries, first)
    ]


def end_of(text: bytes) -> tuple[Position, float]:
    """The end of a log as it is stored, ``EPOCH LAST AT``: the position, and the time."""
    epoch, last, at = text.decode().split(" ")
    return Position(epoch, int(last)), float(at)


def stored_messages(
    drafts: Sequence[Draft], answers: Sequence[Appended], at: float
) -> list[Message]:
    """The messages that have become of drafts, without those that were known before."""
    return [
        Message(answer.offset, at, draft.nick, draft.text, draft.kind, draft.nonce)
        for draft, answer in zip(drafts, answers, strict=True)
        if answer.new
    ]


class Keys:
    """The names of Redis' keys and channels for a room."""

    def __init__(self, database: int) -> None:
        # Channels are those of all databases.
        self._channel = "syncchat" if database == 0 else f"syncchat@{database}"

    @staticmethod
    def prefix(room: str) -> str:
        """What the keys of the room begin with."""
        return f"syncchat:{{{room}}}:"

    def channel(self, room: str) -> str:
        """The channel for the room's batches and live events."""
        return f"{self._channel}:{{{room}}}"

    def room(self, channel: bytes) -> str:
        """The room of a channel."""
        return channel.decode().partition("{")[2][:-1]


def answers_of(epoch: str, text: str) -> list[Appended]:
    """The answers of APPEND: ``FIRST+COUNT``, or an offset for each draft."""
    if found := re.fullmatch(r"(\d+)\+(\d+)", text):
        first = int(found[1])
        return [Appended(epoch, offset, new=True) for offset in range(first, first + int(found[2]))]
    return [
        Appended(epoch, abs(int(each)), new=not each.startswith("-")) for each in text.split(",")
    ]
