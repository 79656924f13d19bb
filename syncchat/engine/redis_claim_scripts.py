"""The Lua scripts with which nodes claim nicks in Redis, and release those of dead nodes.

The keys are described in :mod:`syncchat.engine.redis_scripts`.
"""

from __future__ import annotations

from .redis_scripts import CLAIM, NOW, Script

__all__ = ["AWAY", "BURY", "CLEAN", "DISCARD", "LEASE", "RECLAIM", "RELEASE", "RENAME"]

_FREE = """
local function free(prefix, key)
  redis.call('HDEL', prefix .. 'names', key)
  redis.call('HDEL', prefix .. 'away', key)
end
"""

#: KEYS: the room's prefix. ARGV: node, room, old nick casefolded, new nick casefolded, new nick.
#: Returns whether the new nick was free.
RENAME = Script(
    NOW
    + CLAIM
    + """
local names = KEYS[1] .. 'names'
if ARGV[3] ~= ARGV[4] and not is_free(KEYS[1], ARGV[4]) then
  return 0
end
local owner, since = redis.call('HGET', names, ARGV[3]), now()
if owner and string.match(owner, '^%S+') == ARGV[1] then
  since = string.match(owner, '^%S+ (%S+)')
  redis.call('HDEL', names, ARGV[3])
end
redis.call('HSET', names, ARGV[4], ARGV[1] .. ' ' .. since .. ' ' .. ARGV[5])
local away = redis.call('HGET', KEYS[1] .. 'away', ARGV[3])
if away and ARGV[3] ~= ARGV[4] then
  redis.call('HDEL', KEYS[1] .. 'away', ARGV[3])
  redis.call('HSET', KEYS[1] .. 'away', ARGV[4], away)
end
register(ARGV[1], ARGV[2])
return 1
"""
)

#: KEYS: the room's prefix. ARGV: node, and nicks, casefolded. Releases those that the node holds.
RELEASE = Script(
    _FREE
    + """
local names = KEYS[1] .. 'names'
for i = 2, #ARGV do
  local owner = redis.call('HGET', names, ARGV[i])
  if owner and string.match(owner, '^%S+') == ARGV[1] then
    free(KEYS[1], ARGV[i])
  end
end
return 0
"""
)

#: KEYS: the room's prefix. ARGV: node, room, and the nicks of its members, casefolded and as they
#: are spelled. Claims them again. Returns those that another node has now, and what else the node
#: has in Redis: casefolded nicks, each with its value in the hash.
RECLAIM = Script(
    NOW
    + CLAIM
    + """
local names, lost, held, surplus = KEYS[1] .. 'names', {}, {}, {}
for i = 3, #ARGV, 2 do
  local owner = redis.call('HGET', names, ARGV[i])
  held[ARGV[i]] = true
  if is_free(KEYS[1], ARGV[i]) or string.match(owner, '^%S+') == ARGV[1] then
    local since = owner and string.match(owner, '^%S+ (%S+)') or now()
    redis.call('HSET', names, ARGV[i], ARGV[1] .. ' ' .. since .. ' ' .. ARGV[i + 1])
    register(ARGV[1], ARGV[2])
  else
    lost[#lost + 1] = ARGV[i + 1]
  end
end
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
  if not held[all[i]] and string.match(all[i + 1], '^%S+') == ARGV[1] then
    surplus[#surplus + 1] = all[i]
    surplus[#surplus + 1] = all[i + 1]
  end
end
return {lost, surplus}
"""
)

#: KEYS: the room's prefix. ARGV: casefolded nicks, each with a value of the hash. Releases those
#: whose value is still the same.
DISCARD = Script(
    _FREE
    + """
local names = KEYS[1] .. 'names'
for i = 1, #ARGV, 2 do
  if redis.call('HGET', names, ARGV[i]) == ARGV[i + 1] then
    free(KEYS[1], ARGV[i])
  end
end
return 0
"""
)

#: ARGV: node, milliseconds of the lease. Renews the lease. Returns whether it had not ended, the
#: time, and all nodes, each with the time at which its lease ends.
LEASE = Script(
    NOW
    + """
local lease = 'syncchat:node:' .. ARGV[1]
local alive = redis.call('EXISTS', lease)
local at = now()
redis.call('SET', lease, '1', 'PX', ARGV[2])
redis.call('ZADD', 'syncchat:nodes', tonumber(at) + tonumber(ARGV[2]) / 1000, ARGV[1])
return {alive, at, redis.call('ZRANGE', 'syncchat:nodes', 0, -1, 'WITHSCORES')}
"""
)

#: KEYS: the room's prefix. ARGV: channel, a node, and when its lease ends. Releases the nicks of
#: the node, unless it has renewed its lease, and tells the nodes so.
CLEAN = Script(
    _FREE
    + """
if redis.call('ZSCORE', 'syncchat:nodes', ARGV[2]) ~= ARGV[3] then
  return 0
end
local names, departed = KEYS[1] .. 'names', {}
local held = redis.call('HGETALL', names)
for i = 1, #held, 2 do
  local owner, nick = string.match(held[i + 1], '^(%S+) %S+ (.*)$')
  if owner == ARGV[2] then
    free(KEYS[1], held[i])
    departed[#departed + 1] = nick
  end
end
if #departed > 0 then
  redis.call('PUBLISH', ARGV[1], 'D' .. cjson.encode(departed))
end
return #departed
"""
)

#: ARGV: a node, and when its lease ends, or nothing. Forgets the node, unless it has renewed its
#: lease.
BURY = Script(
    """
if ARGV[2] ~= '' and redis.call('ZSCORE', 'syncchat:nodes', ARGV[1]) ~= ARGV[2] then
  return 0
end
local lease = 'syncchat:node:' .. ARGV[1]
redis.call('DEL', lease, lease .. ':rooms')
redis.call('ZREM', 'syncchat:nodes', ARGV[1])
return 1
"""
)

#: KEYS: the room's prefix. ARGV: node, nick casefolded, and the reason of its owner to be away.
AWAY = Script(
    """
local owner = redis.call('HGET', KEYS[1] .. 'names', ARGV[2])
if owner and string.match(owner, '^%S+') == ARGV[1] then
  redis.call('HSET', KEYS[1] .. 'away', ARGV[2], ARGV[3])
end
return 0
"""
)
