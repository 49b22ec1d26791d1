"""Affected-user queues as whole: emptied, or moved from one namespace to another without losing anybody.

Two namespaces lie in different slots of a Cluster, so nothing here is atomic over both. Whoever is moved is first
queued on the other side (the earliest deadline counts, so that again does no harm) and then taken off this one, unless
it was queued anew meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from schemas.keys import Keys
from schemas.partition import partition_of
from streams.service.redis import Client

PAGE = 1_000

# KEYS: leases, queue.  ARGV: page.  Gives back what ran out, as a model worker would.
EXPIRED = """
local time = redis.call('TIME')
local now = (time[1] * 1000 + math.floor(time[2] / 1000)) * 4
local past = '(' .. string.format('%.0f', now)
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', past, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 1, #gone, 2 do
  redis.call('ZADD', KEYS[2], 'LT', gone[i + 1], gone[i])
  redis.call('ZREM', KEYS[1], gone[i])
end
return redis.call('ZCARD', KEYS[1])
"""

# KEYS: queue.  ARGV: (score, user) pairs that are safe elsewhere.
OFF = """
for i = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i + 1]) or -1) == tonumber(ARGV[i]) then
    redis.call('ZREM', KEYS[1], ARGV[i + 1])
  end
end
return redis.call('ZCARD', KEYS[1])
"""

# KEYS: queue.  ARGV: until when, in epoch ms, the caller may still ask for this.
EMPTY = """
local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 >= tonumber(ARGV[1]) then return -1 end
local n = redis.call('ZCARD', KEYS[1])
redis.call('DEL', KEYS[1])
return n
"""


class Left(NamedTuple):
    """After one pass over all partitions: users moved, and users that are queued or leased still."""

    moved: int
    queued: int
    leased: int


async def move(client: Client, old: Keys, new: Keys, old_partitions: int, new_partitions: int) -> Left:
    """Move all who are queued in `old`, and those whose leases there ran out, to the queues of `new`."""
    redis: Any = client
    moved = queued = leased = 0
    for partition in range(old_partitions):
        tag = old.user_tag(partition)
        leased += await redis.eval(EXPIRED, 2, Keys.leased(tag), Keys.queue(tag), PAGE)
        while True:
            page = await redis.zrange(Keys.queue(tag), 0, PAGE - 1, withscores=True)
            if not page:
                break
            there: dict[int, dict[bytes, int]] = defaultdict(dict)
            for user, score in page:
                there[partition_of(user, new_partitions)][user] = int(score)
            for other, scores in there.items():
                await redis.zadd(Keys.queue(new.user_tag(other)), scores, lt=True)
            pairs = [word for user, score in page for word in (int(score), user)]
            left = await redis.eval(OFF, 1, Keys.queue(tag), *pairs)
            moved += len(page)
            if len(page) < PAGE:
                queued += left
                break
    return Left(moved, queued, leased)


async def empty(client: Client, keys: Keys, partitions: int, until_ms: int) -> int | None:
    """Take everybody off the queues; how many, None where it is later than `until_ms` by then (some may be gone)."""
    redis: Any = client
    gone = 0
    for partition in range(partitions):
        found = await redis.eval(EMPTY, 1, Keys.queue(keys.user_tag(partition)), until_ms)
        if found < 0:
            return None
        gone += found
    return gone


class Turn:
    """The right to promote in an installation, of one process at a time; it ends by itself when that is gone."""

    LASTS_MS = 5_000

    def __init__(self, client: Client, installation: str, name: str) -> None:
        self._redis: Any = client
        self._key, self._name = Keys.turn(installation), name.encode()
        self.until_ms = 0

    async def take(self) -> bool:
        """Take it, or keep it for longer; whether it is ours. `until_ms` is until when, by the server's clock."""
        seconds, microseconds = await self._redis.time()
        ours = await self._redis.set(self._key, self._name, px=self.LASTS_MS, nx=True)
        if not ours and await self._redis.get(self._key) == self._name:
            ours = await self._redis.set(self._key, self._name, px=self.LASTS_MS, xx=True)
        if ours:
            self.until_ms = int(seconds) * 1000 + int(microseconds) // 1000 + self.LASTS_MS
        return bool(ours)

    async def end(self) -> None:
        """Let the next one have it."""
        if await self._redis.get(self._key) == self._name:
            await self._redis.delete(self._key)
