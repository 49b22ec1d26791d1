"""The consumer thread: seek and drain stamp (epoch, prev) in one loop step, so no hole hides between two loops."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from aiokafka.errors import ConsumerStoppedError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.chunks.chunk import Drained, Record
from streams.chunks.drain import drain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.chunks.chunking import Start
    from streams.chunks.transport import ChunkedApp


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Forgets the stamps on every rebalance: nothing drained before the fence seek is trusted."""

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> Awaitable[None]:
        self._forget()
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._forget()
        await super().on_partitions_assigned(assigned)

    def _forget(self) -> None:
        thread = cast("StampingThread", self._thread)
        thread.prev.clear()
        thread.out_of_range.clear()


class StampingThread(driver.AIOKafkaConsumerThread):
    """`prev[tp]`: last offset drained since the last seek, absent before the first; `epoch[tp]`: number of seeks.

    `out_of_range`: partitions whose log no longer has what comes next; nothing is fetched of these until a seek.
    """

    mundane_level = "debug"
    prev: dict[TP, int]
    epoch: defaultdict[TP, int]
    out_of_range: set[TP]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prev = {}
        self.epoch = defaultdict(int)
        self.out_of_range = set()

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        chunking = cast("ChunkedApp", self.app).chunking
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for these four; the consumer reads them in start().
        consumer._isolation_level = chunking.isolation
        consumer._auto_offset_reset = "none"
        consumer._fetch_max_wait_ms = chunking.fetch_wait_ms
        consumer._fetch_min_bytes = chunking.fetch_min_bytes
        return consumer

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Run `fun` in this thread; raises ConsumerStoppedError when the thread ends first (mode waits for ever)."""
        answer = asyncio.ensure_future(super().call_thread(fun, *args, **options))
        gone = asyncio.ensure_future(self._shutdown.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ConsumerStoppedError
            return answer.result()
        finally:
            gone.cancel()
            answer.cancel()

    async def fence_seek(self, starts: Mapping[TP, Start]) -> None:
        """Seek and stamp in one step of this thread's loop; what was revoked meanwhile is left to its new owner.

        What is stopped is not fetched, and has no stamp.
        """
        await self.call_thread(self._fence_seek, starts)

    async def _fence_seek(self, starts: Mapping[TP, Start]) -> None:
        consumer = self._ensure_consumer()
        for tp, start in starts.items():
            self.epoch[tp] += 1
            self.prev.pop(tp, None)
            self.out_of_range.discard(tp)
            kafka_tp = TopicPartition(*tp)
            if not consumer._subscription.is_assigned(kafka_tp):
                continue
            # What is stopped is sought all the same: while one partition has no position, aiokafka fetches nothing of
            # its node.
            consumer.seek(kafka_tp, start.offset)
            if start.stopped:
                consumer.pause(kafka_tp)
            else:
                consumer.resume(kafka_tp)
                self.prev[tp] = start.offset - 1

    async def read_past(self, tp: TP) -> tuple[int, int, int] | None:
        """Epoch, last offset drained and last offset read over, of one moment; None where nothing is read.

        What lies between the two holds no record: markers of transactions, aborted ones, what compaction left.
        """
        found: tuple[int, int, int] | None = await self.call_thread(self._read_past, tp)
        return found

    async def _read_past(self, tp: TP) -> tuple[int, int, int] | None:
        prev, kafka_tp = self.prev.get(tp), TopicPartition(*tp)
        subscription = self._ensure_consumer()._subscription
        if prev is None or not subscription.is_assigned(kafka_tp):
            return None
        state = subscription.subscription.assignment.state_value(kafka_tp)
        return (self.epoch[tp], prev, state.position - 1) if state.has_valid_position else None

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's signature
        max_records: int | None = None,  # noqa: ARG002  # Faust passes its setting; a fetch is bounded in bytes here
    ) -> Mapping[TP, Any]:
        if not self.consumer.flow_active:
            return {}
        try:
            found = await drain(consumer, active_partitions, timeout or 0.0)
        except NoOffsetForPartitionError:
            return {}  # the fetcher ran before the fence seek
        except OffsetOutOfRangeError as error:
            self._hold_back(consumer, error)
            return {}
        return self._stamp(found)  # no await between the drain and the stamp

    def _hold_back(self, consumer: Any, error: OffsetOutOfRangeError) -> None:
        offsets = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        for tp in offsets:
            self.prev.pop(TP(*tp), None)
            self.out_of_range.add(TP(*tp))
            if consumer._subscription.is_assigned(tp):
                consumer.pause(tp)

    def _stamp(self, found: Mapping[Any, Sequence[Record]]) -> dict[TP, Drained]:
        stamped = {}
        for kafka_tp, records in found.items():
            tp = TP(kafka_tp.topic, kafka_tp.partition)
            prev = self.prev.get(tp)
            if prev is None:
                continue  # drained before the fence seek, which will fetch them again
            self.prev[tp] = records[-1].offset
            stamped[tp] = Drained(self.epoch[tp], prev, records)
        return stamped
