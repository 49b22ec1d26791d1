"""Taking fetched records out of aiokafka by whole batches, as the C reader's own objects."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from streams.chunks.chunk import Record
from streams.service.records import records_of


async def drain(consumer: Any, partitions: Set[Any], timeout_s: float) -> dict[Any, list[Record]]:
    """Everything fetched for `partitions`, waiting up to `timeout_s` for the first; positions move along.

    Raises what the fetch of a partition met (offset out of range, no position yet, not authorised, bad checksum).
    """
    fetcher = consumer._fetcher
    if consumer._closed or fetcher._closed:
        raise ConsumerStoppedError
    with fetcher._subscriptions.fetch_context():
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        found = take_ready(fetcher, partitions)
        if not found and await _arrival(fetcher, timeout_s):
            found = take_ready(fetcher, partitions)
        return found


async def _arrival(fetcher: Any, timeout_s: float) -> bool:
    """Whether a fetch brought something within `timeout_s`."""
    waiter = fetcher._create_fetch_waiter()
    done, _ = await asyncio.wait([waiter], timeout=timeout_s)
    if not done or fetcher._closed:
        waiter.cancel()
        return False
    waiter.result()  # an authorisation error of the group is delivered here
    return True


def take_ready(fetcher: Any, partitions: Set[Any]) -> dict[Any, list[Record]]:
    """Take what lies ready. An error of one partition is raised by a later call when records of another came first."""
    taken: dict[Any, list[Record]] = {}
    if fetcher._subscriptions.reassignment_in_progress:
        return taken
    for tp in list(fetcher._records):
        if tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if taken and type(result) is not FetchResult:
            break
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)
        if type(result) is not FetchResult:
            result.check_raise()
        elif result.check_assignment(tp) and (records := _read(result)):
            taken[tp] = records
    return taken


def _read(result: Any) -> list[Record]:
    batches = result._partition_records
    records = read_all(batches)
    result._update_position()
    return records


def read_all(batches: Any) -> list[Record]:
    """All visible records of an aiokafka PartitionRecords, moving its `next_fetch_offset` past everything looked at."""
    # aiokafka's own reader of it, a generator over it: such a cycle keeps what was fetched until the collector comes.
    batches._records_iterator = None
    records: list[Record] = []
    while batches._records.has_next():
        batch = batches._records.raw_batch()
        if batches._check_crcs and not batch.validate_crc():
            message = (
                f"Kafka sent a batch of {batches._tp} whose checksum is wrong; check the broker's disk and network."
            )
            raise CorruptRecordException(message)
        if not _hidden(batches, batch):
            run = records_of(batch, batches._records)
            if run and run[0].offset < batches.next_fetch_offset:  # the middle of a batch was asked for
                run = [record for record in run if record.offset >= batches.next_fetch_offset]
            records += run
        # The batch's own end, not the last record's: compaction may have removed the tail.
        batches.next_fetch_offset = max(batches.next_fetch_offset, batch.next_offset)
    return records


def _hidden(batches: Any, batch: Any) -> bool:
    """Control batches always, aborted transactions when reading committed ones only."""
    if batches._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        batches._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and batches._contains_abort_marker(batch):
            batches._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in batches._aborted_producers:
            return True
    return bool(batch.is_control_batch)
