"""The Lua scripts: compare the fence, write the rows, move the fence last.

Lua has no rollback, so whatever can fail by type is called before the first write, and the first write is one that
Redis refuses when memory is full: a script that fails leaves nothing half-written. `unpack` carries at most about
8,000 values, hence the slices.
"""

_HEAD = """
local meta, topic = KEYS[1], ARGV[1]
local seen = redis.call('HMGET', meta, 'ver', 'o:' .. topic)
if (seen[1] or '') ~= ARGV[2] or (seen[2] or '') ~= ARGV[3] then return 0 end
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
redis.call('HSET', meta, 'ver', ARGV[5], 'o:' .. topic, ARGV[4])
return 1
"""

# KEYS: meta, queue, row keys.  ARGV: topic, seen ver, seen offset, new offset, new ver, count of queue arguments,
# (score, user) pairs, one row for each row key.
USERS = (
    _HEAD
    + """
local queue, queued = KEYS[2], tonumber(ARGV[6])
local at = sliced(7, queued, function(i, j) redis.call('ZADD', queue, 'LT', unpack(ARGV, i, j)) end)
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

# KEYS: meta, rows, catalogue, touched.  ARGV: topic, seen ver, seen offset, new offset, new ver, touched ids (JSON or
# empty), longest touched stream, four counts of arguments, then (id, row) pairs, (id, entry) pairs, removed ids,
# (source field, offset) pairs.
ITEMS = (
    _HEAD
    + """
local rows, catalogue, touched = KEYS[2], KEYS[3], KEYS[4]
redis.call('HLEN', rows)
redis.call('HLEN', catalogue)
if ARGV[6] ~= '' then redis.call('XADD', touched, 'MAXLEN', '~', ARGV[7], '*', 'ids', ARGV[6]) end
local at = sliced(12, tonumber(ARGV[8]), function(i, j) redis.call('HSET', rows, unpack(ARGV, i, j)) end)
at = sliced(at, tonumber(ARGV[9]), function(i, j) redis.call('HSET', catalogue, unpack(ARGV, i, j)) end)
at = sliced(at, tonumber(ARGV[10]), function(i, j) redis.call('HDEL', catalogue, unpack(ARGV, i, j)) end)
sliced(at, tonumber(ARGV[11]), function(i, j) redis.call('HSET', meta, unpack(ARGV, i, j)) end)
"""
    + _FENCE
)
