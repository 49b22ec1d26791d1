"""The user's row: its dtype made from the declaration, its bytes in Redis, and the slab that rows are folded in."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.features import blobs
from streams.features.blobs import Shape, UnreadableError
from streams.features.declaration import BUCKETS, Declaration

Rows = NDArray[np.void]
"""Structured array of rows, dtype `Layout.dtype`."""
Slots = NDArray[np.int64]
"""Positions of rows in a slab."""

NO_RESCORE = 255
"""Priority of a user whom no event of a run asks to rescore."""

Field = tuple[str, str] | tuple[str, str | np.dtype[np.void], tuple[int, ...]]
"""A field of a row's dtype."""

ENTRY = np.dtype([("key", "<u8"), ("item", "<u8")])
"""One entry of a history: key = ts_s << 32 | kind << 24 | dwell << 16 | page << 8 | device, and the item's code."""


class SchemaMismatchError(UnreadableError):
    """A stored row was written under another declaration; the text names both schemas and the way out."""


class KindTable:
    """What the fold asks of each kind, as arrays by its code: its window's column or -1, whether it is active, ..."""

    def __init__(self, declaration: Declaration) -> None:
        kinds = declaration.kinds
        names = [kind.name for kind in declaration.window_kinds]
        self.window = np.array([names.index(k.name) if k.name in names else -1 for k in kinds], np.int64)
        self.active = np.array([kind.active for kind in kinds])
        self.history = np.array([kind.history for kind in kinds])
        self.priority = np.array([NO_RESCORE if k.priority is None else k.priority for k in kinds], np.uint8)
        self.marks = {f"{name}_ms": declaration.code(name) for name in ("opted_out", "token_dead")}


class Layout:
    """Where each field of a user's row lies: its head, its counters, its history; bytes are little-endian.

    `row_bytes`: length of a row in memory. Blobs are shorter, see `streams.features.blobs`.
    """

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.schema = declaration.schema
        self.kinds = KindTable(declaration)
        self.hops = np.array([window.hop_ms for window in declaration.windows], np.int64)
        head: list[Field] = [
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
            ("scene", "u1", (len(declaration.scene),)),
        ]
        counters: list[Field] = [
            ("totals", "<u4", (len(declaration.kinds),)),
            ("windows", "u1", (len(declaration.window_kinds), len(declaration.windows), BUCKETS)),
        ]
        if declaration.hour_of_week:
            counters.append(("hour_of_week", "u1", (168,)))
        history: list[Field] = [("history", ENTRY, (declaration.history,))]
        head, counters = padded(head, "pad"), padded(counters, "counters_pad")
        self.shape = Shape(*(np.dtype(part).itemsize for part in (head, counters, history)))
        self.dtype = np.dtype([*head, *counters, *history])
        self.row_bytes = self.dtype.itemsize

    def empty(self, n: int) -> Rows:
        """`n` rows of users nothing is known of."""
        return np.zeros(n, self.dtype)

    def pack(self, rows: Rows, slots: Slots | None = None) -> list[bytes]:
        """Blobs of the rows, or of those at `slots`."""
        slots = np.arange(len(rows)) if slots is None else slots
        return blobs.pack(self.shape, blobs.dense(rows), slots, self._tail_bytes(rows, slots))

    def framed(self, rows: Rows, slots: Slots) -> bytes:
        """The same blobs in one piece: see `blobs.framed`."""
        return blobs.framed(self.shape, blobs.dense(rows), slots, self._tail_bytes(rows, slots))

    def _tail_bytes(self, rows: Rows, slots: Slots) -> NDArray[np.int64]:
        return rows["history_n"][slots].astype(np.int64) * ENTRY.itemsize

    def unpack(self, stored: Sequence[bytes | None]) -> Rows:
        """Rows of the stored blobs, empty for None. Raises SchemaMismatchError on bytes of another declaration."""
        refuse_other_schema(self.schema, stored)
        rows = blobs.unpack(self.shape, stored, lambda heads: heads[:, 4:6].copy().view("<u2")[:, 0] * ENTRY.itemsize)
        return rows.view(self.dtype)[:, 0]

    @staticmethod
    def history_entries(blob: bytes) -> int:
        """How many history entries a blob holds, without unpacking it; 0 for an empty one."""
        return int.from_bytes(blob[4:6], "little")


def padded(fields: list[Field], name: str) -> list[Field]:
    """The fields, filled up to a multiple of eight bytes."""
    rest = -np.dtype(fields).itemsize % 8
    return [*fields, (name, "u1", (rest,))] if rest else fields


def refuse_other_schema(schema: int, stored: Sequence[bytes | None]) -> None:
    """Raises SchemaMismatchError when a stored blob begins with another schema number."""
    mine = schema.to_bytes(4, "little")
    for blob in stored:
        if blob and not blob.startswith(mine):
            message = f"a stored row has {mismatch(int.from_bytes(blob[:4], 'little'), schema)}"
            raise SchemaMismatchError(message)


def mismatch(stored: int, mine: int) -> str:
    """The rest of a sentence on rows of another schema, with the ways out."""
    return (
        f"schema {stored}, this process reads schema {mine}: the declaration changed, or KAIROS_FEATURES is not set "
        "here. Use the old features.toml, or build rows under the new one beside these, by `kairos replay --mode "
        "rebuild --into NAME --execute` and then `kairos promote NAME --execute`, where NAME is a new namespace "
        "(docs/promote.md)"
    )


class RowLayout(Protocol):
    """What a slab asks of a layout, the user's or the item's."""

    dtype: np.dtype[np.void]

    def unpack(self, stored: Sequence[bytes | None]) -> Rows: ...
    def pack(self, rows: Rows, slots: Slots | None = None) -> list[bytes]: ...


class _SlotOf(dict[str, int]):
    """Slots by key; a key asked for the first time gets the next one and is put into `new`."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, key: str) -> int:
        slot = self[key] = len(self)
        self.new.append(key)
        return slot


class RowSlab:
    """A growing block of rows by key; `rows` is replaced when it grows, so hold slots, not rows.

    Rows of the `capacity` that nobody uses cost no memory: the pages behind them are never touched, not even to clear
    them, as numpy's zeros are where the C library hands out what was freed before.
    """

    def __init__(self, layout: RowLayout, capacity: int = 8192) -> None:
        self.layout = layout
        self.rows: Rows = np.empty(capacity, layout.dtype)
        self.slot_of = _SlotOf()

    def __len__(self) -> int:
        return len(self.slot_of)

    @property
    def new(self) -> list[str]:
        """Keys that have a slot and no row yet, in the order of their slots, which are the last ones."""
        return self.slot_of.new

    def slots(self, keys: Sequence[str]) -> Slots:
        """Slots of the keys, found in one pass; `fill` gives those that are new a row."""
        return np.fromiter(map(self.slot_of.__getitem__, keys), np.int64, len(keys))

    def fill(self, stored: Sequence[bytes | None] = ()) -> None:
        """Give each of the `new` keys a row: unpacked from its blob, empty without one."""
        start = len(self.slot_of) - len(self.new)
        self._reserve(len(self.slot_of))
        rows = blobs.dense(self.rows)[start : len(self.slot_of)]
        rows[:] = 0
        filled = [i for i, blob in enumerate(stored) if blob]
        if filled:
            rows[filled] = blobs.dense(self.layout.unpack([stored[i] for i in filled]))
        self.new.clear()

    def slots_or_add(self, keys: Sequence[str]) -> Slots:
        """Slots of the keys; those without a row get an empty one."""
        slots = self.slots(keys)
        self.fill()
        return slots

    def clear(self) -> None:
        """Forget every row."""
        self.slot_of.clear()
        self.new.clear()

    def _reserve(self, n: int) -> None:
        if n > len(self.rows):
            grown: Rows = np.empty(max(n, 2 * len(self.rows)), self.layout.dtype)
            blobs.dense(grown)[: len(self.rows)] = blobs.dense(self.rows)
            self.rows = grown
