"""Faust's consumer, yielding one message a chunk and starting where the table's fence says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from itertools import repeat, zip_longest
from typing import Any, NamedTuple, cast

from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.chunks.chunk import Chunk, Drained, LogFacts, cut
from streams.chunks.chunking import Chunking, SeekOverdue, Start, TopicGone
from streams.chunks.thread import RebalanceListener, StampingThread
from streams.service.kafka import silence
from streams.service.topic_ids import topic_facts

logger = logging.getLogger(__name__)


class _Unread(dict[TP, int | None]):
    """Read offsets that are never known: with one, Faust drops what a concurrent seek makes it read again."""

    def __getitem__(self, tp: TP) -> int | None:
        return None


class _InFlight(NamedTuple):
    epoch: int
    last: int
    since_s: float


class LogState(NamedTuple):
    """Offsets of a partition as last heard: next to read, readable end, and end including open transactions.

    `position` is -1 before the first seek and when the partition was lost, the ends are 0 before the first answer.
    """

    position: int
    end: int
    highwater: int


class ChunkConsumer(driver.Consumer):
    """All topics are chunked. A chunk dropped anywhere after the drain shows at the table as `prev` above the fence."""

    mundane_level = "debug"  # of mode's lines about starting and stopping
    RebalanceListener = RebalanceListener
    _thread: StampingThread

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._read_offset = _Unread()
        self._in_flight: defaultdict[TP, deque[_InFlight]] = defaultdict(deque)
        self._seek_position: dict[TP, int] = {}
        self._buffer_dropped = asyncio.Event()
        self._seek_lock = asyncio.Lock()
        self._holes: dict[TP, str] = {}

    @property
    def chunking(self) -> Chunking:
        chunking: Chunking = cast("Any", self.app).chunking
        return chunking

    def _new_consumer_thread(self) -> StampingThread:
        return StampingThread(self, loop=self.loop, beacon=self.beacon)

    # -- what the agent, the audit and the liveness probe ask

    def epoch(self, tp: TP) -> int:
        """Number of seeks of `tp` so far; a chunk of another epoch is stale."""
        return self._thread.epoch[tp]

    def drained_to(self, tp: TP) -> int | None:
        """Last offset that left aiokafka for `tp` since its last seek; None before that seek."""
        return self._thread.prev.get(tp)

    def in_flight(self, tp: TP) -> list[int]:
        """Last offsets of the chunks of the present epoch that are yielded and not yet settled."""
        epoch = self.epoch(tp)
        return [chunk.last for chunk in self._in_flight[tp].copy() if chunk.epoch == epoch]

    def oldest_in_flight_s(self, tp: TP) -> float:
        """Seconds since the oldest of these was yielded, 0 when there is none."""
        epoch = self.epoch(tp)
        since = [chunk.since_s for chunk in self._in_flight[tp].copy() if chunk.epoch == epoch]
        return time.monotonic() - min(since) if since else 0.0

    def log_state(self, tp: TP) -> LogState:
        """Where reading stands in the log of an assigned partition."""
        # aiokafka's thread may have taken the partition away already, and Faust has not heard of it yet.
        subscription = self._thread._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        state = assignment.state_value(TopicPartition(*tp)) if assignment is not None else None
        if state is None:
            return LogState(-1, 0, 0)
        position = state.position if state.has_valid_position else -1
        end = state.lso if self.chunking.read_committed else state.highwater
        return LogState(position, end or 0, state.highwater or 0)

    async def empty_tail(self, tp: TP) -> Chunk | None:
        """What was read after the last record of `tp` and holds none, as a chunk; None where there is no such thing."""
        generation = self.app.consumer_generation_id
        found = await self._thread.read_past(tp)
        if found is None or found[2] <= found[1]:
            return None
        epoch, prev, last = found
        return Chunk(*tp, first=last, last=last, prev=prev, epoch=epoch, generation=generation, records=())

    def joined(self) -> bool:
        """Whether this worker is a member of its group, with or without partitions."""
        return bool(self._thread._ensure_consumer()._coordinator.generation > 0)

    def broker_away(self) -> str:
        """A sentence when no connection to Kafka is up, or when one is silent, else empty."""
        return silence(self._thread._ensure_consumer()._client)

    @property
    def stopped(self) -> dict[TP, str]:
        """Assigned partitions that must not be read, each with the reason."""
        assigned = self.assignment()
        return {tp: why for tp, why in self._holes.copy().items() if tp in assigned}

    def cut_off(self) -> set[TP]:
        """Partitions whose log no longer has what comes next, once all that was read of them is settled."""
        return {tp for tp in self._thread.out_of_range.copy() if not self.in_flight(tp)}

    async def rewind(self, tp: TP, offset: int) -> None:
        """Read `tp` again from `offset`; chunks of the epoch before become stale. A stopped one stays as it is."""
        if tp not in self._holes:
            await self._seek_to({tp: Start(offset)})

    async def look_again(self, tps: Collection[TP]) -> None:
        """Ask anew where to read some partitions on, or whether to; raises what the positions do, and TimeoutError."""
        async with self._seek_lock, asyncio.timeout(self.chunking.seek_deadline_s / 2):
            if present := self.assignment() & set(tps):
                await self._set_off(await self._starts(present))

    # -- fetching

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._buffer_dropped.set()

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109
        # With every partition paused by a full buffer the stock loop sleeps a second; here a drained buffer wakes it.
        if self.flow_active and self._buffered_partitions and not self._get_active_partitions():
            self._buffer_dropped.clear()
            try:
                async with asyncio.timeout(1.0):  # wait_for loses cancellations in Python 3.11
                    await self._buffer_dropped.wait()
            except TimeoutError:
                return {}, set()
        return await super()._wait_next_records(0.02 if self._buffered_partitions else timeout)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109
        """Yield one message a chunk, partitions in turn; what a rebalance cuts off is fetched again after its seek."""
        drained, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if drained is None or self.should_stop:
            return
        for tp, chunk in self._chunks(drained, generation):
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if chunk.epoch == self.epoch(tp):
                self._in_flight[tp].append(_InFlight(chunk.epoch, chunk.last, time.monotonic()))
                yield tp, _message(tp, chunk)

    def _chunks(self, drained: Mapping[TP, Drained], generation: int) -> Iterator[tuple[TP, Chunk]]:
        size = self.chunking.records
        drained = dict(sorted(drained.items(), key=lambda one: one[0].partition))  # neighbours go in one step
        runs = [zip(repeat(tp), cut(*tp, found, size, generation)) for tp, found in drained.items()]
        for turn in zip_longest(*runs):
            for tp_chunk in turn:
                if tp_chunk is not None:
                    yield tp_chunk

    # -- settling

    def _new_offset(self, tp: TP) -> int | None:
        """End of the contiguous prefix of yielded chunks that were acknowledged; after a seek, the position itself."""
        acked, pending, epoch = self._acked_index[tp], self._in_flight[tp], self.epoch(tp)
        settled = self._seek_position.pop(tp, None)
        while pending and (pending[0].epoch != epoch or pending[0].last in acked):
            chunk = pending.popleft()
            if chunk.epoch == epoch:
                settled = chunk.last + 1
        if pending:
            first = pending[0].last
            acked.difference_update([offset for offset in acked if offset < first])
        else:
            acked.clear()
        self._acked[tp].clear()
        return settled

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: the liveness probe judges progress by fences and positions."""

    # -- seeking

    async def perform_seek(self) -> None:
        """Seek the whole assignment to where the table wants to read on. Bounded, and never two at once.

        Raises what the positions refuse with, TopicGone and SeekOverdue.
        """
        deadline_s = self.chunking.seek_deadline_s
        async with self._seek_lock:
            try:
                async with asyncio.timeout(deadline_s):
                    starts = await self._starts()
                self._holes.clear()
                await self._set_off(starts)
            except TimeoutError as error:
                message = (
                    f"Kafka and Redis did not say within {deadline_s:.0f} s where to start reading. "
                    "The worker ends here and loses nothing: start it again when both answer."
                )
                raise SeekOverdue(message) from error

    async def _starts(self, of: Collection[TP] | None = None) -> Mapping[TP, Start]:
        """Where to read on, of the whole assignment or a part of it."""
        while True:
            asked = sorted(self.assignment() if of is None else of)
            if not asked:
                return {}
            try:
                facts = await self._log_facts(asked)
            except KafkaError as error:
                if not (error.retriable or isinstance(error, KafkaConnectionError)):
                    raise
                logger.warning("Kafka does not describe the assigned topics yet, trying again: %r", error)
                await asyncio.sleep(0.5)
            else:
                return await self.chunking.positions(facts)

    async def _set_off(self, starts: Mapping[TP, Start]) -> None:
        present = self.assignment()
        starts = {tp: start for tp, start in starts.items() if tp in present}
        for tp, start in starts.items():
            if start.stopped:
                self._holes[tp] = start.stopped
                logger.error("%s[%d] stands still, alone, until somebody acts: %s", *tp, start.stopped)
            elif self._holes.pop(tp, None):
                logger.warning("%s[%d] is read on from offset %d.", *tp, start.offset)
        await self._seek_to(starts)

    async def _log_facts(self, assigned: Sequence[TP]) -> list[LogFacts]:
        thread = self._thread
        starts, ends, topics = await asyncio.gather(
            thread.earliest_offsets(*assigned),
            thread.highwaters(*assigned),
            thread.call_thread(topic_facts, thread._ensure_consumer()._client, {tp.topic for tp in assigned}),
        )
        facts = []
        for tp in assigned:
            if tp.topic not in topics:
                message = (
                    f"Topic {tp.topic} was deleted under this worker. Create it again and rebuild the tables from it."
                )
                raise TopicGone(message)
            topic = topics[tp.topic]
            facts.append(LogFacts(tp.topic, tp.partition, starts[tp], ends[tp], topic.id, topic.partitions))
        return facts

    async def _seek_to(self, starts: Mapping[TP, Start]) -> None:
        for tp, start in starts.items():
            self._in_flight[tp].clear()
            self._acked_index[tp].clear()
            self._acked[tp].clear()  # and there it is: the commit loop looks at every partition listed here
            self._committed_offset[tp] = None
            self._seek_position[tp] = start.offset
        async with asyncio.timeout(self.chunking.seek_deadline_s / 2):
            await self._thread.fence_seek(starts)


def _message(tp: TP, chunk: Chunk) -> ConsumerMessage:
    newest = cast("Any", chunk.records[-1])
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        chunk.last,
        newest.timestamp / 1000.0,
        newest.timestamp_type,
        None,
        None,
        chunk,  # type: ignore[arg-type]  # the pass-through schema hands it to the agent as it is
        None,
        0,
        0,
        tp,
        generation_id=chunk.generation,
    )
