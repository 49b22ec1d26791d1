"""Rows as stored bytes: most counters of most rows are zero, and zero bytes are not stored.

A blob is the row's head as it is, a bitmap of which bytes of its counters are not zero, those bytes, and the used part
of its tail. Rows in memory stay dense, so that folding and reading are plain array arithmetic.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]

FRAME_BYTES = 4


class UnreadableError(ValueError):
    """Root: a stored row that this process must not read."""


class CorruptError(UnreadableError):
    """A blob is not as long as its own head and bitmap say."""


class Shape(NamedTuple):
    """Bytes of a dense row: its head, its counters (a multiple of 8) and the longest tail."""

    head: int
    counters: int
    tail: int

    @property
    def bitmap(self) -> int:
        return self.counters // 8

    @property
    def row(self) -> int:
        return self.head + self.counters + self.tail


def pack(shape: Shape, rows: Bytes, slots: I64, tail_bytes: I64) -> list[bytes]:
    """Blobs of the dense rows u8[R, shape.row] at `slots`, of whose tails `tail_bytes` i64[U] are used."""
    return [blob[FRAME_BYTES:] for blob in map(b"".join, _pieces(shape, rows, slots, tail_bytes))]


def framed(shape: Shape, rows: Bytes, slots: I64, tail_bytes: I64) -> bytes:
    """The same in one piece, which takes a third of the time: each blob behind its length in FRAME_BYTES bytes."""
    return b"".join(chain.from_iterable(_pieces(shape, rows, slots, tail_bytes)))


def unframed(framed_blobs: bytes) -> list[bytes]:
    """The blobs of `framed`."""
    blobs, at = list[bytes](), 0
    while at < len(framed_blobs):
        start = at + FRAME_BYTES
        at = start + int.from_bytes(framed_blobs[at:start], "little")
        blobs.append(framed_blobs[start:at])
    return blobs


def _pieces(shape: Shape, rows: Bytes, slots: I64, tail_bytes: I64) -> Iterable[tuple[bytes, bytes, memoryview]]:
    """Of each row its frame, head and bitmap, its counters that are not zero, and its tail."""
    start = shape.head + shape.counters
    counters = rows[slots, shape.head : start]
    filled = counters != 0
    bitmap = np.packbits(filled, axis=1)
    used = np.bitwise_count(bitmap).sum(axis=1, dtype=np.int64)
    lengths = (shape.head + shape.bitmap + used + tail_bytes).astype("<u4")
    front = np.concatenate([lengths[:, None].view(np.uint8), rows[slots, : shape.head], bitmap], axis=1)
    values = counters.reshape(-1)[np.flatnonzero(filled)].tobytes()  # three times as fast as counters[filled]
    fronts, whole, width = front.tobytes(), memoryview(rows.reshape(-1)), front.shape[1]  # type: ignore[arg-type]
    ends, tails = np.cumsum(used).tolist(), slots * shape.row + start
    return zip(
        [fronts[at : at + width] for at in range(0, len(fronts), width)],
        [values[since:end] for since, end in pairwise([0, *ends])],
        [whole[tail:end] for tail, end in zip(tails.tolist(), (tails + tail_bytes).tolist(), strict=True)],
        strict=True,
    )


def unpack(shape: Shape, blobs: Sequence[bytes | None], tail_bytes: Callable[[Bytes], I64]) -> Bytes:
    """Dense rows u8[U, shape.row] of blobs, zeros for None; `tail_bytes` reads them from heads u8[U, shape.head].

    Raises CorruptError.
    """
    lengths = np.fromiter([len(blob or b"") for blob in blobs], np.int64, len(blobs))
    longest = max(int(lengths.max(initial=0)), shape.head + shape.bitmap)
    table = np.frombuffer(b"".join([(blob or b"").ljust(longest, b"\0") for blob in blobs]), np.uint8)
    table = table.reshape(len(blobs), longest)
    rows = np.zeros((len(blobs), shape.row), np.uint8)
    rows[:, : shape.head] = table[:, : shape.head]
    start = shape.head + shape.bitmap
    filled = np.unpackbits(table[:, shape.head : start], axis=1).view(np.bool_)
    values = np.bitwise_count(table[:, shape.head : start]).sum(axis=1, dtype=np.int64)
    tails = tail_bytes(rows[:, : shape.head])
    if (tails > shape.tail).any() or (lengths != np.where(lengths > 0, start + values + tails, 0)).any():
        text = "A stored row is not as long as its own head says: it was cut or written by something else"
        raise CorruptError(text)
    column = np.arange(longest) - start
    rows[:, shape.head : shape.head + shape.counters][filled] = table[(column >= 0) & (column < values[:, None])]
    if shape.tail:
        used = np.arange(shape.tail) < tails[:, None]
        column = column - values[:, None]
        rows[:, shape.row - shape.tail :][used] = table[(column >= 0) & (column < tails[:, None])]
    return rows


def dense(rows: NDArray[np.void]) -> Bytes:
    """The bytes u8[R, row] of structured rows, shared where they lie together."""
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
