"""The story of an affected user, from lease to acknowledged candidate: read this file first.

lease -> read rows and push logs -> look before scoring (`facts.people`) -> wait for company (`Batcher`) -> score in
threads (`Forward`) -> decide -> produce, awaited -> acknowledge. While one batch is scored the next begins; every queue
between the steps is bounded. Nothing is acknowledged unsent: what a crash or a lost lease leaves is scored again, and
the gateway drops the double by its dedup key.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from model_server import rows
from model_server.batcher import Batcher, Waiting
from model_server.facts import Person, item_facts, people
from model_server.following import followers
from model_server.forward import Begun, Forward, Forwarded, prepare, unscorable
from model_server.holding import Holding
from model_server.items import ItemStore
from model_server.messages import Ended, Scribe
from model_server.metrics import ModelMetrics
from model_server.pace import Pace
from model_server.policy.decide import Ending, decide
from model_server.policy.pushes import columns
from model_server.queue import Ack, Client, Lease, LeaseQueue, Taken
from model_server.rows import Former
from model_server.scoring import I64, RankerSource
from model_server.settings import ModelSettings
from schemas.keys import Keys
from streams.features.calendar import Calendar
from streams.features.rows import Layout
from streams.service.outbox import Outbox
from streams.service.waiting import Waiting as Missing

AHEAD = 2
"""Batches' worth of users that wait for company; a fuller batcher stops the leasing."""


@dataclass(frozen=True)
class Parts:
    """What it is done with; `clock` is the time in epoch ms, `former` are the namespaces that served before."""

    redis: Client
    keys: Keys
    queue: LeaseQueue
    items: ItemStore
    rankers: RankerSource
    outbox: Outbox
    scribe: Scribe
    layout: Layout
    calendar: Calendar
    metrics: ModelMetrics
    missing: Missing
    settings: ModelSettings
    clock: Callable[[], int]
    former: Sequence[Former] = ()


class Rescoring:
    """What a worker does in one namespace.

    `drain`: leave when nobody is queued any more, those due within the longest delay included.
    """

    def __init__(self, parts: Parts, *, drain: bool = False) -> None:
        self.parts = parts
        self._drain_ms = parts.clock() + max(parts.layout.declaration.delays_ms) if drain else None
        self._batcher: Batcher[Person] = Batcher(parts.settings.limits)
        self.holding = Holding(parts.queue, parts.missing, parts.metrics, parts.clock)
        self._scored: asyncio.Queue[list[Forwarded] | None] = asyncio.Queue(maxsize=1)
        self._ended: asyncio.Queue[list[Ended] | None] = asyncio.Queue(maxsize=AHEAD)
        self._forward = Forward(parts.items, parts.metrics, parts.clock)
        self._pace = Pace(parts.settings.batch_delay_ms, parts.settings.queue_poll_ms)
        self._stopping = self._closing = self._exhausted = self._crowded = False
        self._room, self._arrived = asyncio.Event(), asyncio.Event()

    def stop(self) -> None:
        """Take no more users, finish the batches under way, and let `run` return."""
        self._stopping = True
        self._room.set()

    async def run(self) -> None:
        """Work until `stop`, or in drain mode until the queue is empty."""
        try:
            await self._tell()
        finally:
            self._forward.close()

    async def _tell(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            around = [tasks.create_task(each) for each in self._around()]
            story = [tasks.create_task(each) for each in (self._score_all(), self._decide_all(), self._emit_all())]
            await self._lease_all()
            await self._let_go()
            self._closing = True
            self._arrived.set()
            await asyncio.gather(*story)
            for task in around:
                task.cancel()

    def _around(self) -> tuple[Coroutine[None, None, None], ...]:
        return (self.holding.keep(self.parts.settings.lease_s / 3), *followers(self.parts, self.holding))

    # 1. Lease: as many users as have room to wait.

    async def _lease_all(self) -> None:
        limit = AHEAD * self.parts.settings.batch_users
        while not self._stopping:
            room, now_ms = limit - len(self._batcher), self.parts.clock()
            self._room.clear()
            pause_ms, self._crowded = self._pace.longest_ms, True
            if room > 0:
                taken = await self._lease(now_ms, room)
                self._crowded = len(taken.leases) >= room
                self._exhausted = self._drain_ms is not None and not self._crowded
                if taken.leases:
                    await self._receive(taken.leases)
                elif self._drain_ms is not None and not self.holding:
                    return
                pause_ms = self._pace.pause_ms(taken.next_due_ms, now_ms)
            await _wait(self._room, pause_ms)

    def _make_room(self) -> None:
        """Look at the queue again where somebody may wait there for room, or a drain for its end."""
        if self._crowded or self._drain_ms is not None:
            self._room.set()

    async def _lease(self, now_ms: int, limit: int) -> Taken:
        queue, ahead_ms = self.parts.queue, self._pace.ahead_ms
        taken = await self.holding.ride(
            "the queue", lambda: queue.lease(now_ms, limit, self._drain_ms, ahead_ms=ahead_ms)
        )
        self.holding.add(taken.leases)
        self.parts.metrics.users_leased(taken, now_ms)
        return taken

    # 2. Receive: read them, and let the rules that need no score speak first.

    async def _receive(self, leases: list[Lease]) -> None:
        parts = self.parts
        with self._timed("rows"):
            stored = await self.holding.ride(
                "the rows", lambda: rows.read(parts.redis, parts.keys, leases, parts.former)
            )
        now_ms, ranker = parts.clock(), parts.rankers.current()
        deadlines_ms = [lease.deadline_ms for lease in leases]
        persons = people(parts.layout, stored, deadlines_ms, now_ms, parts.settings.zone, parts.settings.policy)
        lengths = ranker.tokens(_history_entries(parts.layout, persons)).tolist()
        settled = []
        for lease, person, tokens in zip(leases, persons, lengths, strict=True):
            waited_ms = {"queue": float(max(now_ms - lease.deadline_ms, 0))}
            if person.admission.ending is not None:
                settled.append(Ended(lease, person, person.admission.ending, ranker.version, waited_ms))
            else:
                self._batcher.add(Waiting(lease, tokens, now_ms, person))
        self._arrived.set()
        if settled:
            await self._ended.put(settled)

    # 3. Score: one batch in its thread, the next one found and counted beside it.

    async def _score_all(self) -> None:
        begun = await self._next_batch()
        while begun is not None:
            following = asyncio.create_task(self._next_batch())
            try:
                await self._scored.put(await self._forward.finish(begun))
                begun = await following
            finally:
                following.cancel()
        await self._scored.put(None)

    async def _next_batch(self) -> Begun | None:
        """Wait for a complete batch and begin it; None when no more will come."""
        parts = self.parts
        while True:
            now_ms = parts.clock()
            self._arrived.clear()
            batch = self._batcher.take(now_ms, drain=self._exhausted)
            if batch is not None:
                self._make_room()
                parts.metrics.users_batched(batch, now_ms)
                prepared = prepare(parts.layout, parts.calendar, batch.users, now_ms)
                return await self._forward.begin(parts.rankers.current(), batch, prepared)
            if self._closing:
                return None
            wake_ms = self._batcher.wake_ms()
            await _wait(self._arrived, None if wake_ms is None else wake_ms - now_ms)

    @property
    def scoring_since_ms(self) -> int | None:
        """Since when the scoring under way is, None where none is."""
        return self._forward.since_ms

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = perf_counter()
        yield
        self.parts.metrics.stage_took(stage, 1000 * (perf_counter() - started_s))

    # 4. Decide: while the next batch is scored.

    async def _decide_all(self) -> None:
        while (parts := await self._scored.get()) is not None:
            with self._timed("decide"):
                ended = [ended for part in parts for ended in self._settle(part)]
            await self._ended.put(ended)
        await self._ended.put(None)

    def _settle(self, part: Forwarded) -> list[Ended]:
        prepared, scored, users, parts = part.prepared, part.scored, part.prepared.users, self.parts
        if scored is None:
            return [self._end(part, unscorable(user), at, {}) for at, user in enumerate(users)]
        facts = item_facts(
            scored,
            parts.items.arrays,
            prepared.requests.view,
            columns([user.person.log for user in users]),
            prepared.now_ms,
            parts.layout.declaration.code("purchase"),
        )
        endings = decide(facts, [user.person.admission for user in users], parts.settings.policy)
        sent = [(at, k) for at, ending in enumerate(endings) if ending.outcome == "sent" for k in ending.picks]
        owed = dict(zip(sent, scored.because(sent) if sent else (), strict=True))
        return [self._end(part, ending, at, owed) for at, ending in enumerate(endings)]

    @staticmethod
    def _end(part: Forwarded, ending: Ending, at: int, owed: Mapping[tuple[int, int], Mapping[str, float]]) -> Ended:
        user, scored = part.prepared.users[at], part.scored
        waited_ms = {
            "queue": float(max(user.since_ms - user.lease.deadline_ms, 0)),
            "batch": float(part.prepared.now_ms - user.since_ms),
        }
        if scored is not None:
            waited_ms["score"] = round(scored.retrieve_ms + scored.collate_ms + scored.forward_ms, 3)
        because = [owed[at, k] for k in ending.picks if (at, k) in owed]
        left_ms = part.prepared.now_ms
        return Ended(user.lease, user.person, ending, part.version, waited_ms, scored, at, left_ms, because)

    # 5. Produce, and only then acknowledge.

    async def _emit_all(self) -> None:
        more = True
        while more:
            groups = [await self._ended.get()]
            while not self._ended.empty():
                groups.append(self._ended.get_nowait())
            more = None not in groups
            ended = [each for group in groups if group is not None for each in group]
            await self._emit([each for each in ended if each.lease in self.holding])

    async def _emit(self, ended: list[Ended]) -> None:
        # A user may have been erased while being scored: the lease is gone then, and nothing may leave.
        await self.holding.confirm([each.lease for each in ended])
        ended = [each for each in ended if each.lease in self.holding]
        if not ended:
            return
        parts, now_ms = self.parts, self.parts.clock()
        records = [parts.scribe.records(each, parts.items.arrays, now_ms) for each in ended]
        with self._timed("produce"):
            # One after the other: a worker that dies in between leaves no candidate that nobody decided.
            await parts.outbox.send([each.decision for each in records])
            await parts.outbox.send([candidate for each in records for candidate in each.candidates])
        produced_ms = parts.clock()
        pairs = zip(ended, records, strict=True)
        acks = [Ack(each.lease, record.push_log, self._retry_ms(each)) for each, record in pairs]
        with self._timed("acknowledge"):
            await self.holding.acknowledge(acks)
        self._make_room()
        parts.metrics.users_ended(ended, records, produced_ms)
        if left := [each.left_ms for each in ended if each.left_ms is not None]:
            self._pace.worked(parts.clock() - max(left))

    def _retry_ms(self, ended: Ended) -> int | None:
        retry_ms = ended.ending.retry_ms
        if retry_ms is None or self._drain_ms is None:
            return retry_ms
        return max(retry_ms, self._drain_ms + 1)  # A drain ends: it does not wait for those it held.

    async def _let_go(self) -> None:
        """Put those back that still wait for company, as they were."""
        waiting = self._batcher.clear()
        await self.holding.acknowledge([Ack(user.lease, score=user.lease.score) for user in waiting])


def _history_entries(layout: Layout, persons: Sequence[Person]) -> I64:
    return np.array([layout.history_entries(person.row) for person in persons], np.int64)


async def _wait(event: asyncio.Event, timeout_ms: float | None) -> None:
    """Until the event or the time, whichever comes first."""
    # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
    with suppress(TimeoutError):
        async with asyncio.timeout(None if timeout_ms is None else max(timeout_ms, 0) / 1000):
            await event.wait()
