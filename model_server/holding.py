"""The leases this worker holds: kept alive, acknowledged once, forgotten when somebody else took over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from model_server.metrics import ModelMetrics
from model_server.queue import Ack, Lease, LeaseQueue
from streams.service.trouble import TROUBLE, passes
from streams.service.waiting import Waiting

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_PAUSE_S = 1.0


class Holding:
    """The leases in hand, one a user. One lock guards their tokens: an acknowledgement beside an extension would carry
    old ones.

    `looks` counts answers of the queue, `settled` the leases that ended here or were lost.
    """

    def __init__(self, queue: LeaseQueue, missing: Waiting, metrics: ModelMetrics, clock: Callable[[], int]) -> None:
        self._queue, self._missing, self._metrics, self._clock = queue, missing, metrics, clock
        self._held: dict[tuple[int, bytes], Lease] = {}
        self._tokens = asyncio.Lock()
        self.looks = self.settled = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, lease: Lease) -> bool:
        return self._held.get(_whose(lease)) is lease

    def add(self, leases: Sequence[Lease]) -> None:
        """Hold these from now on: what the queue answered.

        A user whom we hold already was given out anew because that lease ran out, so it is lost.
        """
        self.looks += 1
        self._lose([held for held in map(self._held.get, map(_whose, leases)) if held is not None])
        self._held.update((_whose(lease), lease) for lease in leases)
        self._metrics.held.set(len(self._held))

    async def acknowledge(self, acks: Sequence[Ack]) -> None:
        """End these leases; waits while Redis is away."""
        async with self._tokens:
            lost = await self.ride("the acknowledgement", lambda: self._queue.acknowledge(acks))
        self._lose([ack.lease for ack in lost])
        self._forget([ack.lease for ack in acks])
        self.settled += len(acks)
        self._metrics.held.set(len(self._held))

    async def confirm(self, leases: Sequence[Lease]) -> None:
        """Extend these leases, and forget those that are no longer ours."""
        if leases:
            async with self._tokens:
                lost = await self._extend(leases, self._clock())
            self._lose(lost)

    async def keep(self, every_s: float) -> None:
        """Extend all leases for ever."""
        while True:
            await asyncio.sleep(every_s)
            async with self._tokens:
                lost = await self._extend(list(self._held.values()), self._clock())
            self._lose(lost)

    async def _extend(self, held: Sequence[Lease], now_ms: int) -> list[Lease]:
        tries = 0

        async def attempt() -> list[Lease]:
            nonlocal tries
            tries += 1
            return await self._queue.extend(held, now_ms, again=tries > 1)

        return await self.ride("the leases", attempt)

    async def ride(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of a call to Redis, tried again while the trouble is one that passes."""
        return await self._missing.until(f"Redis ({what})", attempt, TROUBLE, LONGEST_PAUSE_S, passes)

    def _lose(self, leases: Sequence[Lease]) -> None:
        if leases:
            log.warning(
                "%d leases were lost before they were acknowledged: they ran out, and their users are scored again, or "
                "`kairos erase` took them away",
                len(leases),
            )
            self._metrics.lost.inc(len(leases))
            self._forget(leases)
            self.settled += len(leases)

    def _forget(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            if lease in self:
                del self._held[_whose(lease)]


def _whose(lease: Lease) -> tuple[int, bytes]:
    return lease.partition, lease.user
