"""The user's row: its dtype made from the declaration, its bytes in Redis, and the slab that rows are folded in."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.features.declaration import BUCKETS, Declaration

Rows = NDArray[np.void]
"""Structured array of rows, dtype `Layout.dtype`."""
Slots = NDArray[np.int64]
"""Positions of rows in a slab."""

ENTRY = np.dtype([("key", "<u8"), ("item", "<u8")])
"""One entry of a history: key = ts_s << 32 | kind << 24 | dwell << 16 | page << 8 | device, and the item's code."""


class SchemaMismatchError(ValueError):
    """A stored row was written under another declaration; the text names both schemas and the way out."""


class Layout:
    """Where each field of a user's row lies; bytes are little-endian, the history last so that blobs can be cut.

    `fixed_bytes`: length of the part every blob has. A blob is that part and the used history entries.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.schema = declaration.schema
        head: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = [
            ("schema", "<u4"),
            ("history_n", "<u2"),
            ("spare", "<u2"),
            ("last_ms", "<i8"),
            ("first_ms", "<i8"),
            ("scene_ms", "<i8"),
            ("place_ms", "<i8"),
            ("opted_out_ms", "<i8"),
            ("token_dead_ms", "<i8"),
            ("price_sum_minor", "<i8"),
            ("locale", "S8"),
            ("zone", "<u4"),
            ("priced", "<u4"),
            ("dwell_s", "<u4"),
            ("totals", "<u4", (len(declaration.kinds),)),
            ("scene", "u1", (len(declaration.scene),)),
            ("windows", "u1", (len(declaration.window_kinds), len(declaration.windows), BUCKETS)),
        ]
        if declaration.hour_of_week:
            head.append(("hour_of_week", "u1", (168,)))
        fixed = np.dtype(head).itemsize
        head.append(("pad", "u1", (-fixed % 8,)))
        self.fixed_bytes = fixed + -fixed % 8
        self.dtype = np.dtype([*head, ("history", ENTRY, (declaration.history,))])
        self.row_bytes = self.dtype.itemsize

    def empty(self, n: int) -> Rows:
        """`n` rows of users nothing is known of."""
        return np.zeros(n, self.dtype)

    def unpack(self, blobs: Sequence[bytes | None]) -> Rows:
        """Rows of the stored blobs, empty for None. Raises SchemaMismatchError on bytes of another declaration."""
        width = self.row_bytes
        joined = b"".join([(blob or b"").ljust(width, b"\0") for blob in blobs])
        if len(joined) != width * len(blobs):
            raise SchemaMismatchError(self._mismatch(next(b for b in blobs if b and len(b) > width)))
        rows = np.frombuffer(bytearray(joined), self.dtype)
        schemas = rows["schema"]
        wrong = (schemas != self.schema) & (schemas != 0)
        if wrong.any():
            blob = blobs[int(np.flatnonzero(wrong)[0])]
            raise SchemaMismatchError(self._mismatch(blob or b""))
        return rows

    def _mismatch(self, blob: bytes) -> str:
        found = int.from_bytes(blob[:4], "little")
        return (
            f"a stored row has schema {found}, this process reads schema {self.schema}: the declaration changed, "
            "or KAIROS_FEATURES is not set here. Use the old features.toml, or rebuild into a new namespace: "
            "docs/features.md"
        )

    def blob_bytes(self, rows: Rows, slots: Slots) -> NDArray[np.int64]:
        """Lengths of the blobs of the rows at `slots`."""
        return self.fixed_bytes + rows["history_n"][slots].astype(np.int64) * ENTRY.itemsize

    def pack(self, rows: Rows) -> list[memoryview]:
        """Bytes of each row, views into one copy: the fixed part and the used history entries."""
        width = self.row_bytes
        whole = bytes_of(rows)
        ends = (np.arange(len(rows)) * width + self.fixed_bytes + rows["history_n"] * ENTRY.itemsize).tolist()
        return [whole[i * width : end] for i, end in enumerate(ends)]


def bytes_of(rows: Rows) -> memoryview:
    """The bytes of rows, one after the other."""
    return memoryview(np.ascontiguousarray(rows).view(np.uint8).reshape(-1))  # type: ignore[arg-type]


class RowLayout(Protocol):
    """What a slab asks of a layout, the user's or the item's."""

    dtype: np.dtype[np.void]

    def empty(self, n: int) -> Rows: ...
    def unpack(self, blobs: Sequence[bytes | None]) -> Rows: ...


class RowSlab:
    """A growing block of rows by key; `rows` is replaced when it grows, so hold slots, not rows."""

    def __init__(self, layout: RowLayout, capacity: int = 1024) -> None:
        self.layout = layout
        self.rows = layout.empty(capacity)
        self.slot_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.slot_of)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys, each once and in order, that have no row here yet."""
        slot_of = self.slot_of
        return list(dict.fromkeys([k for k in keys if k not in slot_of]))

    def add(self, keys: Sequence[str], blobs: Sequence[bytes | None] | None = None) -> None:
        """Give each of `keys` (distinct, not here yet) a row: unpacked from its blob, empty without one."""
        start = len(self.slot_of)
        self._reserve(start + len(keys))
        if blobs is None:
            self.rows[start : start + len(keys)] = np.zeros((), self.layout.dtype)
        else:
            self.rows[start : start + len(keys)] = self.layout.unpack(blobs)
        self.slot_of.update(zip(keys, range(start, start + len(keys)), strict=True))

    def slots(self, keys: Sequence[str]) -> Slots:
        """Slots of the keys; raises KeyError for one that has no row."""
        return np.fromiter(map(self.slot_of.__getitem__, keys), np.int64, len(keys))

    def slots_or_add(self, keys: Sequence[str]) -> Slots:
        """Slots of the keys; those without a row get an empty one."""
        missing = self.missing(keys)
        if missing:
            self.add(missing)
        return self.slots(keys)

    def clear(self) -> None:
        """Forget every row."""
        self.slot_of.clear()

    def _reserve(self, n: int) -> None:
        if n > len(self.rows):
            grown = self.layout.empty(max(n, 2 * len(self.rows)))
            grown[: len(self.rows)] = self.rows
            self.rows = grown
