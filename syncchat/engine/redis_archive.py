"""Reads and writes all logs in Redis, without an engine, for export and import."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ..errors import AppendUnknown, EngineFailed, EngineUnusable
from .archive import Archive, Nonce, Room
from .interface import Message, Position
from .redis_connection import Argument, Pipeline, Reply
from .redis_format import Entry, Keys, messages_of
from .redis_records import RedisRecords
from .redis_scripts import NOW, Script
from .redis_server import RedisServer

__all__ = ["RedisArchive"]

#: Keys, messages or nonces that are read at a time.
_BATCH = 500

#: Seconds for which the nonces of an import are known, as long as others at most.
_NONCE_SECONDS = 24 * 3600

#: KEYS: the room's prefix. ARGV: room, epoch; the offsets of the end before and after; the number
#: of messages; an offset and the JSON for each, and the time of the last one; and for each nonce
#: its fingerprint and its offset. Returns the number of messages: 0 if the log does not end there;
#: -1 if a server runs.
_IMPORT = Script(
    NOW
    + """
local prefix, room, epoch = KEYS[1], ARGV[1], ARGV[2]
local meta, log = prefix .. 'meta', prefix .. 'log'
local before, after, count = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local at = now()
if redis.call('ZCOUNT', 'syncchat:nodes', at, '+inf') > 0 then
  return -1
end
local found = redis.call('HMGET', meta, 'epoch', 'last', 'gen')
local last = tonumber(found[2] or '0')
if last ~= before or last > 0 and found[1] ~= epoch then
  return 0
end
if last == 0 then
  redis.call('UNLINK', meta, log, prefix .. 'seen:0', prefix .. 'seen:1')
  redis.call('HSET', meta, 'epoch', epoch, 'gen', 0, 'gen_at', at, 'at', 0)
end
local first = 6 + 2 * count + 1
for i = 6, first - 2, 2 do
  redis.call('XADD', log, ARGV[i] .. '-0', 'd', ARGV[i + 1])
end
redis.call('HSET', meta, 'last', after, 'base', after)
if count > 0 then
  redis.call('HSET', meta, 'at', ARGV[first - 1])
  redis.call('HSET', 'syncchat:rooms', room, epoch .. ' ' .. after .. ' ' .. ARGV[first - 1])
end
local seen = prefix .. 'seen:' .. (last == 0 and 0 or tonumber(found[3] or '0')) % 2
for i = first, #ARGV, 2 do
  redis.call('HSET', seen, ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', seen, NONCE_SECONDS)
return 1
""".replace("NONCE_SECONDS", str(_NONCE_SECONDS))
)


class RedisArchive(Archive):
    """The logs in the Redis at ``url``. Raises :class:`EngineUnusable` if it cannot be reached."""

    def __init__(self, url: str) -> None:
        server = RedisServer(url)
        self._pipeline = Pipeline(server)
        self.records = RedisRecords(self._pipeline)
        try:
            self._ask("PING")
        except EngineFailed as exc:
            self._pipeline.close()
            raise EngineUnusable(f"cannot use {server.name}: {exc}") from exc

    def rooms(self) -> Iterator[Room]:
        for key in sorted(set(self._scan("SCAN", "MATCH", "syncchat:{*}:meta"))):
            room = key.decode().removeprefix("syncchat:{").removesuffix("}:meta")
            end = self.find(room)
            if end is not None:
                yield Room(room, end.epoch, end.offset)

    def find(self, room: str) -> Position | None:
        epoch, last = self._ask("HMGET", f"{Keys.prefix(room)}meta", "epoch", "last")
        return Position(epoch.decode(), int(last)) if epoch and last and int(last) else None

    def messages(self, room: str, last: int) -> Iterator[Message]:
        log, after = f"{Keys.prefix(room)}log", 0
        while entries := self._ask("XRANGE", log, f"{after + 1}-0", f"{last}-0", "COUNT", _BATCH):
            for name, (_, entry) in entries:
                after = int(name.partition(b"-")[0])
                yield from messages_of(after, [entry])

    def nonces(self, room: str, last: int) -> Iterable[Nonce]:
        # Redis has no order for them, and a bounded number.
        found: dict[bytes, int] = {}
        for generation in (0, 1):
            items = self._scan("HSCAN", f"{Keys.prefix(room)}seen:{generation}")
            found.update((fingerprint, int(next(items))) for fingerprint in items)
        known = sorted((offset, each.decode()) for each, offset in found.items())
        return (Nonce(each, offset) for offset, each in known if offset <= last)

    def add(
        self,
        room: str,
        before: Position | None,
        end: Position,
        messages: Sequence[Message],
        nonces: Sequence[Nonce],
    ) -> None:
        ends = [0 if before is None else before.offset, end.offset]
        arguments: list[Argument] = [room, end.epoch, *ends, len(messages)]
        for message in messages:
            entry = Entry(message.time, message.nick, message.text, message.kind, message.nonce)
            arguments += [message.offset, msgspec.json.encode(entry)]
        arguments.append(repr(messages[-1].time) if messages else "0")
        for nonce in nonces:
            arguments += [nonce.fingerprint, nonce.offset]
        try:
            done = self._pipeline.run(_IMPORT, [Keys.prefix(room)], *arguments)
        except AppendUnknown as exc:
            raise EngineFailed(f"{exc}: repeat the import") from exc
        if done < 0:
            raise EngineFailed("servers run on this Redis: stop them first")
        if not done:
            raise EngineFailed(f"the room {room} was changed meanwhile")

    def close(self) -> None:
        self._pipeline.close()

    def _scan(self, command: str, *words: Argument) -> Iterator[bytes]:
        """What a command of the SCAN family finds."""
        key, options = (words[:1], words[1:]) if command != "SCAN" else ((), words)
        cursor: Argument = 0
        while True:
            cursor, found = self._ask(command, *key, cursor, *options, "COUNT", _BATCH)
            yield from found
            if not int(cursor):
                return

    def _ask(self, *command: Argument) -> Reply:
        (reply,) = self._pipeline.ask([command])
        return reply
