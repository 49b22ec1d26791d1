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
# Then, KEYS: meta, queue, row keys.  ARGV: count of queue arguments, (score, user) pairs, one row for each row key.
USERS = (
    _HEAD
    + """
local queue, queued = KEYS[2], tonumber(ARGV[first])
local at = sliced(first + 1, queued, function(i, j) redis.call('ZADD', queue, 'LT', unpack(ARGV, i, j)) end)
local pairs_ = {}
local rows = #KEYS - 2
for r = 1, rows do
  pairs_[2 * r - 1] = KEYS[2 + r]
  pairs_[2 * r] = ARGV[at + r - 1]
end
sliced(1, 2 * rows, function(i, j) redis.call('MSET', unpack(pairs_, i, j)) end)
"""
    + _FENCE
)

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
