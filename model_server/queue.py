"""The queue of affected users: lease, extend and acknowledge, each one script on one partition's hash tag.

The contract, on which two workers never hold the same user rests:

- The stream worker adds users with `ZADD LT`: one entry a user, the earliest deadline counts.
  Score = deadline_ms * 4 + class.
- A lease moves a due user from the queue to the leases; its score there, expiry_ms * 4 + class, is the token.
  A leased user who is queued again by new events is passed over, and leased again after the acknowledgement.
- An acknowledgement counts only while the token is still ours. It writes the push log and, for a user held back,
  the new deadline.
- A lease that expired goes back to the queue with its expiry as the deadline: a crashed worker's users are not lost.
- Under a backlog, back-fill (class 3) waits until every other user in sight is taken: each call looks at both ends
  of what is due.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError

from schemas.keys import Keys
from streams.features.declaration import BACKFILL

Client = Redis | RedisCluster
T = TypeVar("T")

PUSH_LOG_TTL_S = 40 * 86_400

# ARGV: now * 4, due * 4 + 3, expiry * 4, limit, page, due of the back-fill * 4 + 3.
# Reply: length of the queue, leases returned to it, next score or '', then user, score for each user taken.
LEASE = """
local q, l = KEYS[1], KEYS[2]
local expiry, limit, page = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local back = redis.call('ZRANGEBYSCORE', l, '-inf', '(' .. ARGV[1], 'WITHSCORES', 'LIMIT', 0, page)
for i = 1, #back, 2 do
  redis.call('ZADD', q, 'LT', back[i + 1], back[i])
  redis.call('ZREM', l, back[i])
end
local due = redis.call('ZRANGEBYSCORE', q, '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, page)
local all = #due < 2 * page
if not all then
  local tail = redis.call('ZREVRANGEBYSCORE', q, ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', 0, page)
  for i = 1, #tail, 2 do due[#due + 1] = tail[i]; due[#due + 1] = tail[i + 1] end
end
local out = {0, #back / 2, ''}
local function take(i)
  if #out - 3 >= 2 * limit then return end
  local score = tonumber(due[i + 1])
  local token = string.format('%.0f', expiry + score % 4)
  if redis.call('ZADD', l, 'NX', token, due[i]) == 0 then return end
  redis.call('ZREM', q, due[i])
  out[#out + 1] = due[i]; out[#out + 1] = due[i + 1]
end
for i = 1, #due, 2 do if tonumber(due[i + 1]) % 4 < 3 then take(i) end end
for i = 1, #due, 2 do
  local score = tonumber(due[i + 1])
  if score % 4 == 3 and score <= tonumber(ARGV[6]) then take(i) end
end
out[1] = redis.call('ZCARD', q)
local after = redis.call('ZRANGEBYSCORE', q, '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if #out - 3 >= 2 * limit or not all then out[3] = ARGV[2] elseif #after > 0 then out[3] = after[2] end
return out
"""

# KEYS: leases, queue, a push log a user.  ARGV: TTL, then user, token, new score or '', push log or '' for each.
ACKNOWLEDGE = """
local out = {}
for i = 1, #KEYS - 2 do
  local at = 4 * i - 2
  local user, score, log = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  out[i] = 0
  if tonumber(redis.call('ZSCORE', KEYS[1], user) or -1) == tonumber(ARGV[at + 1]) then
    if score ~= '' then redis.call('ZADD', KEYS[2], 'LT', score, user) end
    redis.call('ZREM', KEYS[1], user)
    if log ~= '' then redis.call('SET', KEYS[2 + i], log, 'EX', ARGV[1]) end
    out[i] = 1
  end
end
return out
"""

# KEYS: leases.  ARGV: expiry * 4, 1 where the call is repeated, then user, token for each.  A repeated call finds its
# own fresh token; in a first one such a token is that of another lease, begun or extended in the same millisecond.
EXTEND = """
local out = {}
for i = 3, #ARGV, 2 do
  local token = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or -1)
  local fresh = ARGV[1] + ARGV[i + 1] % 4
  local ours = token == tonumber(ARGV[i + 1]) or (ARGV[2] == '1' and token == fresh)
  if ours then redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', fresh), ARGV[i]) end
  out[(i - 1) / 2] = ours and 1 or 0
end
return out
"""


@dataclass(slots=True, eq=False)
class Lease:
    """One user held by this worker until `token // 4` ms; `score` is what the queue said (deadline_ms * 4 + class)."""

    partition: int
    user: bytes
    score: int
    token: int

    @property
    def deadline_ms(self) -> int:
        """When the user should have been scored."""
        return self.score >> 2

    @property
    def priority(self) -> int:
        """Class of the rescore, an index into `streams.features.declaration.CLASSES`."""
        return self.score & 3


@dataclass(slots=True)
class Taken:
    """What one round of lease calls brought; `next_due_ms` is when the next queued user is due, None without one."""

    leases: list[Lease] = field(default_factory=list)
    depth: int = 0
    expired: int = 0
    next_due_ms: int | None = None


@dataclass(slots=True)
class Ack:
    """The end of one lease: `requeue_ms` puts the user back as back-fill due then, `score` puts it back as it was."""

    lease: Lease
    push_log: bytes = b""
    requeue_ms: int | None = None
    score: int | None = None

    def new_score(self) -> int | bytes:
        """Score under which the user goes back into the queue, empty where it does not."""
        if self.requeue_ms is not None:
            return self.requeue_ms * 4 + BACKFILL
        return b"" if self.score is None else self.score


class LeaseQueue:
    """The queues of all user partitions of one namespace, behind one Redis client."""

    def __init__(self, redis: Client, keys: Keys, partitions: int, lease_ms: int, random: Random) -> None:
        self._redis, self._keys, self._lease_ms, self._random = redis, keys, lease_ms, random
        self._tags = [keys.user_tag(p) for p in range(partitions)]

    async def lease(self, now_ms: int, limit: int, due_ms: int | None = None, *, ahead_ms: int = 0) -> Taken:
        """Take up to about `limit` users due at `due_ms` (default now), from the partitions after a random one.

        The live are taken `ahead_ms` before that; back-fill is not, for a held user's time must have come. One round
        trip. Raises redis.exceptions.RedisError; users of a call whose reply was lost come back at expiry.
        """
        start = self._random.randrange(len(self._tags))
        order = [(start + i) % len(self._tags) for i in range(min(limit, len(self._tags)))]
        share = math.ceil(limit / len(order))
        expiry = (now_ms + self._lease_ms) * 4
        due_ms = now_ms if due_ms is None else due_ms
        arguments = [now_ms * 4, (due_ms + ahead_ms) * 4 + 3, expiry, share, 2 * share + 32, due_ms * 4 + 3]
        tags = [self._tags[partition] for partition in order]
        calls = [([self._keys.queue(tag), self._keys.leased(tag)], arguments) for tag in tags]
        taken = Taken()
        for partition, reply in zip(order, await self._run(LEASE, calls), strict=True):
            _collect(taken, partition, reply, expiry)
        return taken

    async def acknowledge(self, acks: Sequence[Ack]) -> list[Ack]:
        """End these leases and return those that were no longer ours (nothing was written for them)."""
        groups = _by_partition(acks, lambda ack: ack.lease.partition)
        calls = []
        for partition, group in groups:
            tag = self._tags[partition]
            pushes = [self._keys.pushes(tag, ack.lease.user) for ack in group]
            arguments: list[Any] = [PUSH_LOG_TTL_S]
            for ack in group:
                arguments += [ack.lease.user, ack.lease.token, ack.new_score(), ack.push_log]
            calls.append(([self._keys.leased(tag), self._keys.queue(tag), *pushes], arguments))
        replies = await self._run(ACKNOWLEDGE, calls)
        ours = [zip(group, reply, strict=True) for (_, group), reply in zip(groups, replies, strict=True)]
        return [ack for pairs in ours for ack, was_ours in pairs if not was_ours]

    async def extend(self, leases: Iterable[Lease], now_ms: int, *, again: bool = False) -> list[Lease]:
        """Give these leases, each of another user, a fresh term, in place; return those that were no longer ours.

        A call whose reply was lost is made `again` with the same `now_ms`; nothing else may use the tokens meanwhile.
        """
        groups = _by_partition(leases, lambda lease: lease.partition)
        expiry, calls = (now_ms + self._lease_ms) * 4, []
        for partition, group in groups:
            arguments: list[Any] = [expiry, int(again)]
            for lease in group:
                arguments += [lease.user, lease.token]
            calls.append(([self._keys.leased(self._tags[partition])], arguments))
        lost = []
        for (_, group), reply in zip(groups, await self._run(EXTEND, calls), strict=True):
            for lease, was_ours in zip(group, reply, strict=True):
                if was_ours:
                    lease.token = expiry + (lease.token & 3)
                else:
                    lost.append(lease)
        return lost

    async def _run(self, script: str, calls: Sequence[tuple[list[bytes], list[Any]]]) -> list[Any]:
        """Run one script on several tags in one round trip; a server that does not know it yet gets its text."""
        replies: list[Any] = [None] * len(calls)
        open_calls = list(range(len(calls)))
        for command in ("EVALSHA", "EVAL"):
            pipe: Any = self._redis.pipeline(transaction=False)
            text = _digest(script) if command == "EVALSHA" else script
            for i in open_calls:
                keys, arguments = calls[i]
                pipe.execute_command(command, text, len(keys), *keys, *arguments)
            answers = await pipe.execute(raise_on_error=False) if open_calls else []
            for i, answer in zip(open_calls, answers, strict=True):
                replies[i] = answer
            open_calls = [i for i in open_calls if isinstance(replies[i], NoScriptError)]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


@cache
def _digest(script: str) -> str:
    """The name under which a server keeps a script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _collect(taken: Taken, partition: int, reply: Sequence[Any], expiry: int) -> None:
    """Add one partition's reply to `taken`."""
    depth, expired, after, *pairs = reply
    taken.depth += depth
    taken.expired += expired
    for user, text in zip(pairs[::2], pairs[1::2], strict=True):
        score = int(text)
        taken.leases.append(Lease(partition, user, score, expiry + (score & 3)))
    if after:
        due_ms = int(after) >> 2
        taken.next_due_ms = due_ms if taken.next_due_ms is None else min(taken.next_due_ms, due_ms)


def _by_partition(things: Iterable[T], partition: Callable[[T], int]) -> list[tuple[int, list[T]]]:
    groups: dict[int, list[T]] = {}
    for thing in things:
        groups.setdefault(partition(thing), []).append(thing)
    return list(groups.items())
