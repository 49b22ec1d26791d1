"""The Lua scripts: compare the fence, write the rows, move the fence last.

Lua has no rollback, so whatever can fail by type is called before the first write, and the first write is one that
Redis refuses when memory is full: a script that fails leaves nothing half-written. `unpack` carries at most about
8,000 values, hence the slices.
"""

_HEAD = """
local meta, first = KEYS[1], 4 + 3 * ARGV[3]
if (redis.call('HGET', meta, 'ver') or '') ~= ARGV[1] then return 0 end
local moved = {'ver', ARGV[2]}
for at = 4, first - 1, 3 do
  if (redis.call('HGET', meta, ARGV[at]) or '') ~= ARGV[at + 1] then return 0 end
  moved[#moved + 1], moved[#moved + 2] = ARGV[at], ARGV[at + 2]
end
local SLICE = 3998
local function sliced(first, count, call)
  local last = first + count - 1
  for i = first, last, SLICE do
    local j = i + SLICE - 1
    if j > last then j = last end
    call(i, j)
  end
  return last + 1
end
"""

_FENCE = """
redis.call('HSET', meta, unpack(moved))
return 1
"""

# ARGV of both begins with the move: seen ver, new ver, count of topics, (field, seen offset, new offset) of each.
# Then, KEYS: meta, queue, row keys.  ARGV: length of a row key before its user, one byte a user that says which score,
# rows each behind its length, scores. Arguments are few and long because each costs on its way to Lua.
USERS = (
    _HEAD
    + """
local user, urgency, rows, scores = ARGV[first] + 1, ARGV[first + 1], ARGV[first + 2], {unpack(ARGV, first + 3)}
local queue, pairs_, at = {}, {}, 1
for r = 3, #KEYS do
  local key, score = KEYS[r], scores[urgency:byte(r - 2) + 1]
  if score then queue[#queue + 1], queue[#queue + 2] = score, key:sub(user) end
  pairs_[#pairs_ + 1] = key
  pairs_[#pairs_ + 1], at = struct.unpack('<I4c0', rows, at)
end
sliced(1, #queue, function(i, j) redis.call('ZADD', KEYS[2], 'LT', unpack(queue, i, j)) end)
sliced(1, #pairs_, function(i, j) redis.call('MSET', unpack(pairs_, i, j)) end)
"""
    + _FENCE
)

# KEYS: meta, tombstones, row, push log, queue, leases, pushes of a shadow.  ARGV: user, erased ms, new ver, the row as
# it was read.  Reply: 0 when the row has changed, else bytes of the row, logs of pushes removed (0 to 2), 1 or 0 for
# queue and lease; tombstone before or ''.
ERASE = """
local meta, erased, row, pushes, queue, leased, shadow = unpack(KEYS)
local user, ms = ARGV[1], ARGV[2]
local seen, before = redis.call('GET', row) or '', redis.call('HGET', erased, user)
local queued, held = redis.call('ZSCORE', queue, user), redis.call('ZSCORE', leased, user)
redis.call('HLEN', meta)
if seen ~= ARGV[4] then return 0 end
if not before or tonumber(before) < tonumber(ms) then redis.call('HSET', erased, user, ms) end
redis.call('HSET', meta, 'ver', ARGV[3])
redis.call('ZREM', queue, user)
redis.call('ZREM', leased, user)
redis.call('DEL', row)
return {#seen, redis.call('DEL', pushes, shadow), queued and 1 or 0, held and 1 or 0, before or ''}
"""

# KEYS: meta, tombstones.  ARGV: new ver, then (user, ms) pairs.
KEEP_AWAY = """
local later = false
for i = 2, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[2], ARGV[i])
  if not before or tonumber(before) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    later = true
  end
end
if later then redis.call('HSET', KEYS[1], 'ver', ARGV[1]) end
return 1
"""

# KEYS: meta, rows, catalogue, touched.  ARGV: touched ids (JSON or empty), longest touched stream, four counts of
# arguments, then (id, row) pairs, (id, entry) pairs, removed ids, (source field, offset) pairs.
ITEMS = (
    _HEAD
    + """
local rows, catalogue, touched = KEYS[2], KEYS[3], KEYS[4]
redis.call('HLEN', rows)
redis.call('HLEN', catalogue)
local ids, counts = ARGV[first], {unpack(ARGV, first + 2, first + 5)}
if ids ~= '' then redis.call('XADD', touched, 'MAXLEN', '~', ARGV[first + 1], '*', 'ids', ids) end
local at = sliced(first + 6, tonumber(counts[1]), function(i, j) redis.call('HSET', rows, unpack(ARGV, i, j)) end)
at = sliced(at, tonumber(counts[2]), function(i, j) redis.call('HSET', catalogue, unpack(ARGV, i, j)) end)
at = sliced(at, tonumber(counts[3]), function(i, j) redis.call('HDEL', catalogue, unpack(ARGV, i, j)) end)
sliced(at, tonumber(counts[4]), function(i, j) redis.call('HSET', meta, unpack(ARGV, i, j)) end)
"""
    + _FENCE
)
