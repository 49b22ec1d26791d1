"""Reading batches with header names that are no UTF-8: aiokafka's readers raise on one and so would stop a partition.

Kafka takes any bytes as the name of a header, and clients outside Java send what they are given.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy as DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_HEAD = Struct(">qi")
"""Of a batch: its first offset, and how many bytes follow."""


class KeptRecords(MemoryRecords):  # type: ignore[misc]  # aiokafka carries no types
    """The C reader of a fetch, beside the bytes that it reads."""

    def __init__(self, fetched: bytes) -> None:
        super().__init__(fetched)
        self.fetched = fetched


fetcher.MemoryRecords = KeptRecords


class _Lenient(bytes):
    """Bytes whose text always decodes; the reader slices names out of it."""

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        return _Lenient(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


def read_leniently(records: KeptRecords, base_offset: int) -> list[Any]:
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
