"""The Lua scripts of the Redis engine: each is one atomic step on the keys of a room.

The keys of a room begin with ``syncchat:{ROOM}:``, so that a cluster keeps them together:

- ``meta``, a hash: ``epoch``, ``last`` (the offset of the last message), ``base`` (the last
  offset when the epoch began), ``at`` (the time of the last message), ``gen`` and ``gen_at``
  (the generation of nonces), and for each node ``b:NODE``, its last batch and the answer to it.
- ``log``, a stream: the ID of a message is ``OFFSET-0``, its field ``d`` the message as JSON.
- ``seen:0`` and ``seen:1``, hashes: the fingerprints of nonces, with their offsets. One is
  filled; the other has the fingerprints before these.
- ``names``, a hash: a casefolded nick, and ``NODES SINCE NICK``.
- ``looks``, a hash: the look of a nick, and the casefolded nick. It counts only while ``names``
  has that nick.
- ``away``, a hash: a casefolded nick, and the reason of its owner to be away.

``syncchat:rooms``, a hash, has the ends of all logs with messages: a room, and ``EPOCH LAST AT``.
One command reads those of many rooms. ``syncchat:nodes`` has the nodes by the time at which their
leases end; ``syncchat:node:NODE`` is the lease, ``syncchat:node:NODE:rooms`` has the rooms in
which the node has claimed nicks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from .interface import PAGE_BYTES

__all__ = [
    "APPEND",
    "BEFORE",
    "EMPTY_SECONDS",
    "NOW",
    "POSITIONS",
    "READ",
    "ROOMS",
    "STATE",
    "TAIL",
    "Script",
]

#: Seconds for which nonces are known at least, unless there are many; and how many of a room
#: are known at least, if they are newer than that.
_NONCE_SECONDS, _NONCES = 12 * 3600, 100_000

#: Seconds after which the log of a room without a message is forgotten, if no node follows it.
EMPTY_SECONDS = 7200

#: Seconds after which the last batch of a node is forgotten: it is repeated within a few.
_BATCH_SECONDS = 3600

NOW = """
local function now()
  local t = redis.call('TIME')
  return string.format('%d.%06d', t[1], t[2])
end
"""

STATE = (
    NOW
    + """
-- Whether another message has the offset now, since Redis has gone back and on again.
local function replaced(log, offset, at, last, last_at)
  if offset == 0 or at == 0 then
    return false
  end
  if offset == last then
    return tonumber(last_at) ~= at
  end
  local id = offset .. '-0'
  local found = redis.call('XRANGE', log, id, id)[1]
  return found and tonumber(string.match(found[2][2], '^%[([%d.]+)')) ~= at
end

-- The epoch, the last offset and the base of a log, and further fields of its hash. A new epoch,
-- called fresh, begins if there is no log, or if Redis has gone back to a state before what the
-- node has seen of this epoch. The nodes are told of it.
local function state(prefix, channel, fresh, epoch, seen, at, node)
  local meta, log = prefix .. 'meta', prefix .. 'log'
  local found = redis.call(
    'HMGET', meta, 'epoch', 'last', 'base', 'at', 'gen', 'gen_at', 'b:' .. node)
  local last = tonumber(found[2])
  local gone_back = not last or epoch == found[1]
    and (seen > last or replaced(log, seen, at, last, found[4]))
  if not gone_back then
    return found[1], last, tonumber(found[3]), found
  end
  if not last then
    last = 0
    redis.call('UNLINK', log, prefix .. 'seen:0', prefix .. 'seen:1')
  end
  redis.call('HSET', meta, 'epoch', fresh, 'last', last, 'base', last)
  if last == 0 then
    redis.call('EXPIRE', meta, EMPTY_SECONDS)
  end
  redis.call('PUBLISH', channel, '["' .. fresh .. '",' .. last + 1 .. ',' .. last .. ',0,[]]')
  return fresh, last, last, found
end
""".replace("EMPTY_SECONDS", str(EMPTY_SECONDS))
)

READ = """
-- The messages after the offset start, as many as limit and a page allow.
local function forward(prefix, start, limit)
  local taken, size = {}, 0
  while #taken < limit and size <= PAGE_BYTES do
    local asked = math.min(64, limit - #taken)
    local first = start + #taken + 1
    local got = redis.call('XRANGE', prefix .. 'log', first .. '-0', '+', 'COUNT', asked)
    if #taken == 0 and got[1] then
      start = tonumber(string.match(got[1][1], '^%d+')) - 1
    end
    for _, each in ipairs(got) do
      taken[#taken + 1] = each[2][2]
      size = size + #each[2][2]
    end
    if #got < asked then
      break
    end
  end
  return start + 1, taken
end

-- The messages before an offset, the newest first, and whether only the size ended the page.
local function backward(prefix, before, limit)
  local taken, size = {}, 0
  while #taken < limit do
    local asked = math.min(64, limit - #taken)
    local first = before - #taken - 1
    local got = redis.call('XREVRANGE', prefix .. 'log', first .. '-0', '-', 'COUNT', asked)
    for _, each in ipairs(got) do
      taken[#taken + 1] = each[2][2]
      size = size + #each[2][2]
    end
    if #got < asked then
      break
    end
    if size > PAGE_BYTES then
      return taken, 1
    end
  end
  return taken, 0
end

local function tail(prefix, epoch, last, after_epoch, after, limit)
  local start, known = after, 1
  if after > 0 and (after_epoch ~= epoch or after > last) then
    start, known = math.max(0, last - limit), 0
  end
  local first, taken = forward(prefix, start, limit)
  return start, known, first, taken
end
""".replace("PAGE_BYTES", str(PAGE_BYTES))


@dataclass(frozen=True)
class Script:
    """A Lua script, and the name by which Redis knows it."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # Redis names scripts by their SHA-1; nothing depends on its security.
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)


#: KEYS: the room's prefix. ARGV: channel, fresh epoch; the fence: epoch, offset, time; node,
#: batch, room; messages and seconds to keep (-1: all); and for each draft its fingerprint (or
#: nothing) and its JSON. Returns the epoch, the answer, and the time of the messages. The answer is
#: ``FIRST+COUNT``, or an offset for each draft, negative if it was known.
APPEND = Script(
    STATE
    + """
local prefix = KEYS[1]
local meta, log = prefix .. 'meta', prefix .. 'log'
local channel, node, batch, room = ARGV[1], ARGV[6], ARGV[7], ARGV[8]
local messages, seconds = tonumber(ARGV[9]), tonumber(ARGV[10])
local epoch, last, base, found =
  state(prefix, channel, ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), node)
if found[7] then
  local id, then_, answer = string.match(found[7], '^(%S+) (%S+) (.*)$')
  if id == batch then
    -- A write, so that WAIT on this connection waits for the batch.
    redis.call('HSET', meta, 'b:' .. node, found[7])
    return {epoch, answer, then_}
  end
end
local at = now()
local gen, began = tonumber(found[5]) or 0, tonumber(found[6]) or 0
local seen, older = prefix .. 'seen:' .. gen % 2, prefix .. 'seen:' .. (gen + 1) % 2
local rotated = tonumber(at) > began + NONCE_SECONDS or redis.call('HLEN', seen) >= NONCES
if rotated then
  seen, older = older, seen
  gen = gen + 1
  redis.call('UNLINK', seen)
  local fields = redis.call('HGETALL', meta)
  for i = 1, #fields, 2 do
    local made = string.match(fields[i + 1], '^%S+ (%S+) ')
    if string.sub(fields[i], 1, 2) == 'b:' and tonumber(made) < tonumber(at) - BATCH_SECONDS then
      redis.call('HDEL', meta, fields[i])
    end
  end
  redis.call('HSET', meta, 'gen', gen, 'gen_at', at)
end
local before, new, answers, trimmed = last, {}, {}, messages < 0
for i = 11, #ARGV, 2 do
  local key = ARGV[i]
  local known = key ~= '' and (redis.call('HGET', seen, key) or redis.call('HGET', older, key))
  if known then
    answers[#answers + 1] = '-' .. known
  else
    last = last + 1
    local entry = '[' .. at .. ',' .. ARGV[i + 1]
    -- With the last one, drop the oldest.
    if messages >= 0 and i + 2 > #ARGV then
      redis.call('XADD', log, 'MAXLEN', '=', messages, last .. '-0', 'd', entry)
      trimmed = true
    else
      redis.call('XADD', log, last .. '-0', 'd', entry)
    end
    if key ~= '' then
      redis.call('HSET', seen, key, last)
    end
    new[#new + 1] = entry
    answers[#answers + 1] = last
  end
end
local answer = before + 1 .. '+' .. #new
if #new < #answers then
  answer = table.concat(answers, ',')
end
local noted = batch .. ' ' .. at .. ' ' .. answer
if rotated then
  redis.call('EXPIRE', seen, 2 * NONCE_SECONDS)
end
if #new == 0 then
  redis.call('HSET', meta, 'b:' .. node, noted)
  return {epoch, answer, at}
end
redis.call('HSET', meta, 'b:' .. node, noted, 'last', last, 'at', at)
if not trimmed then
  redis.call('XTRIM', log, 'MAXLEN', '=', messages)
end
if before == 0 then
  redis.call('PERSIST', meta)
end
if seconds >= 0 then
  local oldest = tonumber(at) - seconds
  local from = 1
  repeat
    local got = redis.call('XRANGE', log, '-', '+', 'COUNT', from)
    local at_most = #got
    local old = 0
    while old < at_most and tonumber(string.match(got[old + 1][2][2], '^%[([%d.]+)')) < oldest do
      old = old + 1
    end
    if old > 0 then
      local id = tonumber(string.match(got[old][1], '^%d+')) + 1
      redis.call('XTRIM', log, 'MINID', '=', id .. '-0')
    end
    from = 100
  until old == 0 or old < at_most
  redis.call('EXPIRE', log, math.ceil(seconds) + 60)
end
redis.call('HSET', 'syncchat:rooms', room, epoch .. ' ' .. last .. ' ' .. at)
redis.call('PUBLISH', channel, '["' .. epoch .. '",' .. before + 1 .. ',' .. last .. ',' .. at
  .. ',[' .. table.concat(new, ',') .. ']]')
return {epoch, answer, at}
""".replace("NONCE_SECONDS", str(_NONCE_SECONDS))
    .replace("NONCES", str(_NONCES))
    .replace("BATCH_SECONDS", str(_BATCH_SECONDS))
)

#: KEYS: the prefixes of rooms. ARGV, for each room: channel, fresh epoch, and the fence: epoch,
#: offset, time. Returns for each room its epoch, last offset, base, and the time of the last
#: message.
POSITIONS = Script(
    STATE
    + """
local all = {}
for i, prefix in ipairs(KEYS) do
  local j = 5 * i - 5
  local epoch, last, base, found = state(
    prefix, ARGV[j + 1], ARGV[j + 2], ARGV[j + 3], tonumber(ARGV[j + 4]), tonumber(ARGV[j + 5]), '')
  if last == 0 then
    redis.call('EXPIRE', prefix .. 'meta', EMPTY_SECONDS)
  else
    -- It may be missing, or have an older epoch.
    redis.call('HSET', 'syncchat:rooms', string.match(prefix, '{(.*)}:$'),
      epoch .. ' ' .. last .. ' ' .. (found[4] or '0'))
  end
  all[#all + 1] = {epoch, last, base, found[4] or '0'}
end
return all
""".replace("EMPTY_SECONDS", str(EMPTY_SECONDS))
)

#: KEYS: the room's prefix. ARGV: channel, fresh epoch; a position: epoch, offset; limit. Returns
#: the epoch, last offset, base, time, the offset after which it begins, whether the position is
#: known, the offset of the first message, and the messages.
TAIL = Script(
    STATE
    + READ
    + """
local prefix = KEYS[1]
local epoch, last, base = state(prefix, ARGV[1], ARGV[2], '', 0, 0, '')
local start, known, first, taken =
  tail(prefix, epoch, last, ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
return {epoch, last, base, now(), start, known, first, taken}
"""
)

#: KEYS: the room's prefix. ARGV: the offset before which to read, or 0; limit. Returns the time,
#: the offset of the newest message, whether a page was full, and the messages, the newest first.
BEFORE = Script(
    STATE
    + READ
    + """
local prefix = KEYS[1]
local last = tonumber(redis.call('HGET', prefix .. 'meta', 'last') or '0')
local before = tonumber(ARGV[1])
if before == 0 or before > last + 1 then
  before = last + 1
end
local taken, full = backward(prefix, before, tonumber(ARGV[2]))
return {now(), before - 1, full, taken}
"""
)

#: Returns the time, and the rooms that have had messages, each with the end of its log.
ROOMS = Script(
    NOW
    + """
return {now(), redis.call('HGETALL', 'syncchat:rooms')}
"""
)
