"""The Lua scripts with which nodes claim nicks in Redis, and release those of dead nodes.

The keys are described in :mod:`syncchat.engine.redis_scripts`.
"""

from __future__ import annotations

from .redis_scripts import NOW, READ, STATE, Script

__all__ = ["AWAY", "BURY", "CLEAN", "DISCARD", "ENTER", "LEASE", "RECLAIM", "RELEASE", "RENAME"]

#: The owner of a nick is ``NODES SINCE NICK``. NODES is a node; or, for a nick that several nodes
#: may claim for the same owner, ``+OWNER:`` and the nodes with a comma behind each. Needs NOW
#: before it.
_CLAIM = """
local function nodes_of(owner)
  return string.match(owner, '^%S+')
end

local function holds(owner, node)
  local nodes = nodes_of(owner)
  return nodes == node or string.find(nodes, node .. ',', 1, true)
end

-- Whether the lease of a node that holds the nick has not ended.
local function is_alive(owner)
  local nodes = string.gsub(nodes_of(owner), '^%+[^:]*:', '')
  for node in string.gmatch(nodes, '[^,]+') do
    if redis.call('EXISTS', 'syncchat:node:' .. node) == 1 then
      return true
    end
  end
  return false
end

-- Whether a node may claim the nick: nobody has it, or one that looks the same, or only nodes
-- whose leases have ended. The nick with the key old is about to be released.
local function is_free(prefix, key, look, old)
  local names = prefix .. 'names'
  local owner = key ~= old and redis.call('HGET', names, key)
  if owner and is_alive(owner) then
    return false
  end
  local alike = look ~= '' and redis.call('HGET', prefix .. 'looks', look)
  if not alike or alike == key or alike == old then
    return true
  end
  owner = redis.call('HGET', names, alike)
  return not (owner and is_alive(owner))
end

-- Whether the nick is held for the same owner.
local function joins(held, owner)
  return owner ~= '' and held and string.sub(held, 1, #owner + 2) == '+' .. owner .. ':'
end

-- Store a claim. Returns whether no other node holds the nick.
local function hold(prefix, node, key, look, owner, since, nick)
  local names = prefix .. 'names'
  local nodes, first = node, true
  if owner ~= '' then
    nodes = '+' .. owner .. ':' .. node .. ','
    local held = redis.call('HGET', names, key)
    if joins(held, owner) and is_alive(held) then
      first = false
      nodes = holds(held, node) and nodes_of(held) or nodes_of(held) .. node .. ','
      since, nick = string.match(held, '^%S+ (%S+) (.*)$')
    end
  end
  redis.call('HSET', names, key, nodes .. ' ' .. since .. ' ' .. nick)
  if look ~= '' then
    redis.call('HSET', prefix .. 'looks', look, key)
  end
  return first
end

-- Release a node's claim. Returns whether no node holds the nick any more.
local function free(prefix, node, key, look)
  local names = prefix .. 'names'
  local owner = redis.call('HGET', names, key)
  if not owner or not holds(owner, node) then
    return not owner
  end
  local nodes, rest = string.match(owner, '^(%S+)(.*)$')
  if nodes ~= node then
    local first, last = string.find(nodes, node .. ',', 1, true)
    nodes = string.sub(nodes, 1, first - 1) .. string.sub(nodes, last + 1)
    if string.sub(nodes, -1) ~= ':' then
      redis.call('HSET', names, key, nodes .. rest)
      return false
    end
  end
  redis.call('HDEL', names, key)
  redis.call('HDEL', prefix .. 'away', key)
  if redis.call('EXISTS', names) == 0 then
    redis.call('DEL', prefix .. 'looks')
  elseif look ~= '' and redis.call('HGET', prefix .. 'looks', look) == key then
    redis.call('HDEL', prefix .. 'looks', look)
  end
  return true
end

-- Note that a node has nicks in a room, so that the others release them if it dies. Redis may
-- have forgotten the node, which may die before it renews its lease.
local function register(node, room)
  redis.call('SADD', 'syncchat:node:' .. node .. ':rooms', room)
  redis.call('ZADD', 'syncchat:nodes', 'NX', now(), node)
end

-- Claim the first free one of the nicks from ARGV[at] on: each casefolded, its look, its
-- owner, and as it is spelled. Returns which, and 1 if nobody had it.
local function claim(prefix, room, node, at)
  for i = at, #ARGV, 4 do
    local key, look, owner = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local held = redis.call('HGET', prefix .. 'names', key)
    if joins(held, owner) or is_free(prefix, key, look, '') then
      local first = hold(prefix, node, key, look, owner, now(), ARGV[i + 3])
      if first then
        redis.call('HDEL', prefix .. 'away', key)
      end
      register(node, room)
      return (i - at) / 4 + 1, first and 1 or 0
    end
  end
  return 0, 0
end
"""

#: KEYS: the room's prefix. ARGV: channel, fresh epoch, node, room, 1 for the names; a position:
#: epoch, offset (-1: none); limit; and the nicks to try. Returns which of them is claimed (0:
#: none), whether nobody had it, the names as their owners and spellings, and what TAIL returns.
ENTER = Script(
    STATE
    + READ
    + _CLAIM
    + """
local prefix = KEYS[1]
local claimed, is_first = claim(prefix, ARGV[4], ARGV[3], 9)
if claimed == 0 then
  return {0}
end
local epoch, last, base = state(prefix, ARGV[1], ARGV[2], '', 0, 0, '')
local names = {}
if ARGV[5] == '1' then
  names = redis.call('HVALS', prefix .. 'names')
end
local after, limit = tonumber(ARGV[7]), tonumber(ARGV[8])
local start, known, first, taken, full = last, 1, last, {}, 0
if after >= 0 then
  start, known, first, taken = tail(prefix, epoch, last, ARGV[6], after, limit)
elseif limit > 0 then
  taken, full = backward(prefix, last + 1, limit)
end
return {claimed, is_first, names, {epoch, last, base, now(), start, known, first, taken}}
"""
)

#: KEYS: the room's prefix. ARGV: node, room, old nick casefolded, its look, 1 if the node keeps it
#: for another member; the new nick casefolded, its look, its owner, and as it is spelled.
#: Returns whether the new nick was free.
RENAME = Script(
    NOW
    + _CLAIM
    + """
local prefix, names = KEYS[1], KEYS[1] .. 'names'
local node, old, key, look, owner = ARGV[1], ARGV[3], ARGV[6], ARGV[7], ARGV[8]
local keeps = ARGV[5] == '1'
local held = redis.call('HGET', names, key)
if not joins(held, owner) and not is_free(prefix, key, look, not keeps and old or '') then
  return 0
end
local before, since = redis.call('HGET', names, old), now()
local away = redis.call('HGET', prefix .. 'away', old)
if before and holds(before, node) and not keeps then
  since = string.match(before, '^%S+ (%S+)')
  free(prefix, node, old, ARGV[4])
end
local first = hold(prefix, node, key, look, owner, since, ARGV[9])
if away and first and not keeps and old ~= key then
  redis.call('HSET', prefix .. 'away', key, away)
end
register(node, ARGV[2])
return 1
"""
)

#: KEYS: the room's prefix. ARGV: node, and nicks, each casefolded and with its look. Releases those
#: that the node holds. Returns how many of them no node holds any more.
RELEASE = Script(
    NOW
    + _CLAIM
    + """
local freed = 0
for i = 2, #ARGV, 2 do
  if free(KEYS[1], ARGV[1], ARGV[i], ARGV[i + 1]) then
    freed = freed + 1
  end
end
return freed
"""
)

#: KEYS: the room's prefix. ARGV: node, room, and the nicks of its members: each casefolded, its
#: look, its owner, and as it is spelled. Claims them again. Returns those that another node
#: has now, and what else the node has in Redis: casefolded nicks, each with its value in the hash.
RECLAIM = Script(
    NOW
    + _CLAIM
    + """
local names, lost, held, surplus = KEYS[1] .. 'names', {}, {}, {}
for i = 3, #ARGV, 4 do
  local key, look, owner = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local before = redis.call('HGET', names, key)
  held[key] = true
  local keeps = joins(before, owner) or (before and holds(before, ARGV[1]))
  if keeps or is_free(KEYS[1], key, look, '') then
    local since = before and string.match(before, '^%S+ (%S+)') or now()
    hold(KEYS[1], ARGV[1], key, look, owner, since, ARGV[i + 3])
    register(ARGV[1], ARGV[2])
  else
    lost[#lost + 1] = ARGV[i + 3]
  end
end
local all = redis.call('HGETALL', names)
for i = 1, #all, 2 do
  if not held[all[i]] and holds(all[i + 1], ARGV[1]) then
    surplus[#surplus + 1] = all[i]
    surplus[#surplus + 1] = all[i + 1]
  end
end
return {lost, surplus}
"""
)

#: KEYS: the room's prefix. ARGV: node, and casefolded nicks, each with a value of the hash.
#: Releases those whose value is still the same.
DISCARD = Script(
    NOW
    + _CLAIM
    + """
local names = KEYS[1] .. 'names'
for i = 2, #ARGV, 2 do
  if redis.call('HGET', names, ARGV[i]) == ARGV[i + 1] then
    free(KEYS[1], ARGV[1], ARGV[i], '')
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
    NOW
    + _CLAIM
    + """
if redis.call('ZSCORE', 'syncchat:nodes', ARGV[2]) ~= ARGV[3] then
  return 0
end
local names, departed = KEYS[1] .. 'names', {}
local held = redis.call('HGETALL', names)
for i = 1, #held, 2 do
  if holds(held[i + 1], ARGV[2]) and free(KEYS[1], ARGV[2], held[i], '') then
    departed[#departed + 1] = string.match(held[i + 1], '^%S+ %S+ (.*)$')
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
    NOW
    + _CLAIM
    + """
local owner = redis.call('HGET', KEYS[1] .. 'names', ARGV[2])
if owner and holds(owner, ARGV[1]) then
  redis.call('HSET', KEYS[1] .. 'away', ARGV[2], ARGV[3])
end
return 0
"""
)
