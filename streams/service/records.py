"""Consumers that survive every record: aiokafka's readers raise on a header name that is no UTF-8.

Kafka takes any bytes as the name of a header, and clients outside Java send what they are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy as DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_HEAD = Struct(">qi")
"""Of a batch: its first offset, and how many bytes follow."""


class KeptRecords(MemoryRecords):  # type: ignore[misc]  # aiokafka carries no types
    """The C reader of a fetch, beside the bytes that it reads."""

    raw_batch = MemoryRecords.next_batch  # as it is, for who reads whole batches

    def __init__(self, fetched: bytes) -> None:
        super().__init__(fetched)
        self.fetched = fetched

    def next_batch(self) -> Any:
        """The next batch, which raises on nothing that a header is called."""
        batch = self.raw_batch()
        return batch and _Batch(batch, self)


fetcher.MemoryRecords = KeptRecords


def reader(*topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer outside any group, not started yet; `options` are those of the client and of aiokafka's consumer."""
    return AIOKafkaConsumer(*topics, enable_auto_commit=False, **options)


class _Batch:
    """A batch of the C reader, read as a whole when its first record is asked for."""

    def __init__(self, batch: Any, records: KeptRecords) -> None:
        self._batch, self._records = batch, records
        self._found: Iterator[Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> _Batch:
        return self

    def __next__(self) -> Any:
        if self._found is None:
            self._found = iter(records_of(self._batch, self._records))
        return next(self._found)


def records_of(batch: Any, records: KeptRecords) -> list[Any]:
    """All records of a batch of the C reader."""
    try:
        return list(batch)
    except UnicodeDecodeError:
        return _read_leniently(records, batch.base_offset)


class _Lenient(bytes):
    """Bytes whose text always decodes; the reader slices names out of it."""

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _Lenient(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


def _read_leniently(records: KeptRecords, base_offset: int) -> list[Any]:
    """The records of the batch that begins at this offset, with U+FFFD in names of headers that are no UTF-8."""
    at, fetched = 0, records.fetched
    while True:
        first, size_bytes = _HEAD.unpack_from(fetched, at)
        end = at + _HEAD.size + size_bytes
        if first == base_offset:
            batch = DefaultRecordBatchPy(fetched[at:end])
            batch._maybe_uncompress()
            batch._buffer = _Lenient(batch._buffer)
            return list(batch)
        at = end
