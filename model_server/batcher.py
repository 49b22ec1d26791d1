"""Which users are scored together: by length, within a budget of tokens, the most urgent first; time is an argument."""

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from model_server.queue import Lease
from streams.features.declaration import BACKFILL

Reason = Literal["full", "tokens", "delay", "deadline", "drain"]
P = TypeVar("P")
REASONS: tuple[Reason, ...] = ("full", "tokens", "delay", "deadline", "drain")


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is complete.

    `users` and `tokens` bound a batch (padding counted; one user above the budget goes alone), `delay_ms` is how long
    a user may wait for company, `late_ms` how far behind its deadline it may be before it stops waiting, `lengths`
    are the upper ends of the length buckets in tokens, `padding` is the share up to which neighbours fill a batch: a
    ranker pads less, by its own lengths, and costs far more where a batch is not full.
    """

    users: int = 32
    tokens: int = 8_192
    delay_ms: int = 5
    late_ms: int = 100
    lengths: tuple[int, ...] = (64, 128, 192, 256, 384, 512)
    padding: float = 0.25


@dataclass(slots=True, eq=False)
class Waiting(Generic[P]):
    """A leased user on its way to the ranker: its length, since when it waits, and what is known of the person."""

    lease: Lease
    tokens: int
    since_ms: int
    person: P

    @property
    def urgency(self) -> tuple[bool, int]:
        """Sorts the live before the back-fill, then by deadline."""
        return (self.lease.priority == BACKFILL, self.lease.score)


@dataclass(slots=True)
class Batch(Generic[P]):
    """Users that are scored together, and why they left now."""

    users: list[Waiting[P]]
    reason: Reason

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return sum(user.tokens for user in self.users)

    @property
    def padded_tokens(self) -> int:
        """Tokens when every user is as long as the longest."""
        return len(self.users) * max(user.tokens for user in self.users)


@dataclass
class Batcher(Generic[P]):
    """Users that wait, in one heap a length bucket; the caller bounds how many by leasing no more than fit."""

    limits: BatchLimits
    _heaps: list[list[tuple[tuple[bool, int], int, Waiting[P]]]] = field(init=False)
    _count: int = 0
    _size: int = 0

    def __post_init__(self) -> None:
        self._heaps = [[] for _ in range(len(self.limits.lengths) + 1)]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Waiting[P]]:
        return (entry[2] for heap in self._heaps for entry in heap)

    def add(self, user: Waiting[P]) -> None:
        """Let a user wait in the bucket of its length."""
        self._count += 1
        self._size += 1
        heapq.heappush(self._heaps[bisect_left(self.limits.lengths, user.tokens)], (user.urgency, self._count, user))

    def clear(self) -> list[Waiting[P]]:
        """Let everybody go unscored."""
        gone = list(self)
        for heap in self._heaps:
            heap.clear()
        self._size = 0
        return gone

    def take(self, now_ms: int, *, drain: bool = False) -> Batch[P] | None:
        """The next batch that is complete at `now_ms`, most urgent bucket first; None while all may still wait.

        `drain`: nobody waits for company any more.
        """
        for bucket in sorted((b for b, heap in enumerate(self._heaps) if heap), key=lambda b: self._heaps[b][0][0]):
            reason = self._complete(bucket, now_ms) or ("drain" if drain else None)
            if reason is not None:
                return Batch(self._fill(bucket), reason)
        return None

    def wake_ms(self) -> int | None:
        """When the first user will have waited long enough, None when nobody waits."""
        limits = self.limits
        times = (min(u.since_ms + limits.delay_ms, u.lease.deadline_ms + limits.late_ms) for u in self)
        return min(times, default=None)

    def _complete(self, bucket: int, now_ms: int) -> Reason | None:
        """Why this bucket's batch may leave now, if it may."""
        limits, users = self.limits, [entry[2] for entry in self._heaps[bucket]]
        if len(users) >= limits.users:
            return "full"
        if len(users) * max(user.tokens for user in users) >= limits.tokens:
            return "tokens"
        if any(user.lease.deadline_ms + limits.late_ms <= now_ms for user in users):
            return "deadline"
        if any(user.since_ms + limits.delay_ms <= now_ms for user in users):
            return "delay"
        return None

    def _fill(self, bucket: int) -> list[Waiting[P]]:
        """The most urgent users of a bucket within the limits, then neighbours of a similar length."""
        batch: list[Waiting[P]] = []
        longest = total = 0
        nearest = sorted(range(len(self._heaps)), key=lambda other: abs(other - bucket))
        for other in nearest:
            heap = self._heaps[other]
            while heap and len(batch) < self.limits.users:
                tokens = heap[0][2].tokens
                length, room = max(longest, tokens), len(batch) + 1
                if batch and length * room > self.limits.tokens:
                    break
                if other != bucket and total + tokens < (1 - self.limits.padding) * length * room:
                    break
                batch.append(heapq.heappop(heap)[2])
                longest, total = length, total + tokens
        self._size -= len(batch)
        return batch
