"""Records in Redis, which all nodes share.

``syncchat:records:KIND`` is a hash with the records of a kind; ``syncchat:records`` is a random
number that is another one after each announced write.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from .records import Record, Records
from .redis_connection import Argument, Pipeline
from .redis_scripts import Script
from .redis_server import RedisServer

__all__ = ["RedisRecords", "open_redis_records"]

_VERSION = "syncchat:records"

#: KEYS: the version. ARGV: the new version, or nothing; and for each record: its kind, its key,
#: 1 for a record to store and 0 for one to delete, its value.
_WRITE = Script("""
for i = 2, #ARGV, 4 do
  local kind = KEYS[1] .. ':' .. ARGV[i]
  if ARGV[i + 2] == '1' then
    redis.call('HSET', kind, ARGV[i + 1], ARGV[i + 3])
  else
    redis.call('HDEL', kind, ARGV[i + 1])
  end
end
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
""")


class RedisRecords(Records):
    """The records in the Redis of ``pipeline``, which the caller closes."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def read(self, kind: str) -> dict[str, bytes]:
        (found,) = self._pipeline.ask([("HGETALL", f"{_VERSION}:{kind}")])
        # Another program may have written what is no text.
        names = [key.decode(errors="replace") for key in found[::2]]
        return dict(zip(names, found[1::2], strict=True))

    def all(self) -> list[Record]:
        (kinds,) = self._pipeline.ask([("KEYS", f"{_VERSION}:*")])
        names = sorted(kind.decode(errors="replace").removeprefix(f"{_VERSION}:") for kind in kinds)
        return [
            Record(kind, key, value)
            for kind in names
            for key, value in sorted(self.read(kind).items())
        ]

    def get(self, kind: str, key: str) -> bytes | None:
        (found,) = self._pipeline.ask([("HGET", f"{_VERSION}:{kind}", key)])
        value: bytes | None = found
        return value

    def write(self, records: Sequence[Record], *, announce: bool = True) -> None:
        # To repeat the script changes nothing more.
        arguments: list[Argument] = [str(1 + secrets.randbelow(2**53)) if announce else ""]
        for record in records:
            stored = "0" if record.value is None else "1"
            arguments += [record.kind, record.key, stored, record.value or b""]
        self._pipeline.run(_WRITE, [_VERSION], *arguments)

    def version(self) -> int:
        (found,) = self._pipeline.ask([("GET", _VERSION)])
        return int(found) if found and found.isdigit() else 0

    def close(self) -> None:
        """Do nothing: the pipeline is the caller's."""


class _OwnRecords(RedisRecords):
    """Records with a connection of their own."""

    def close(self) -> None:
        self._pipeline.close()


def open_redis_records(url: str) -> Records:
    """The records in the Redis at ``url``, which is reached at the first call."""
    return _OwnRecords(Pipeline(RedisServer(url)))
