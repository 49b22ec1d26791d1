"""The item's row: counts by kind in rolling windows, and profiles by hour, weekday and scene; integers only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features import blobs
from streams.features.blobs import Shape
from streams.features.declaration import BUCKETS, Declaration
from streams.features.fold import turn
from streams.features.rows import Field, Rows, Slots, padded, refuse_other_schema

PERIODS = 2
"""Epochs of a profile that are kept: the running one and the one before it."""

I64 = NDArray[np.int64]


class ItemEvents(NamedTuple):
    """E events as an item's row sees them; `codes` u8[E, F] in the order of `Declaration.profile_names`."""

    ts_ms: I64
    kind: NDArray[np.uint8]
    codes: NDArray[np.uint8]


class ItemLayout:
    """Where each field of an item's row lies; `row_bytes` is its length in memory, blobs are shorter."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.schema = declaration.schema
        sizes = [declaration.size_of(name) for name in declaration.profile_names]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        head: list[Field] = [("schema", "<u4"), ("period", "<u4"), ("first_ms", "<i8"), ("last_ms", "<i8")]
        counters: list[Field] = [
            ("totals", "<u4", (len(declaration.item_kinds),)),
            ("windows", "<u4", (len(declaration.item_kinds), len(declaration.windows), BUCKETS)),
            ("profiles", "<u2", (PERIODS, int(self.offsets[-1]))),
        ]
        counters = padded(counters, "pad")
        self.shape = Shape(np.dtype(head).itemsize, np.dtype(counters).itemsize, 0)
        self.dtype = np.dtype([*head, *counters])
        self.row_bytes = self.dtype.itemsize
        self.hops = np.array([window.hop_ms for window in declaration.windows], np.int64)
        self.kind_column = np.array(
            [next((i for i, k in enumerate(declaration.item_kinds) if k is kind), -1) for kind in declaration.kinds]
        )

    def field(self, name: str) -> slice:
        """Columns of the profile called `name`."""
        i = self.declaration.profile_names.index(name)
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def empty(self, n: int) -> Rows:
        """`n` rows of items nothing is known of."""
        return np.zeros(n, self.dtype)

    def pack(self, rows: Rows, slots: Slots | None = None) -> list[bytes]:
        """Blobs of the rows, or of those at `slots`."""
        slots = np.arange(len(rows)) if slots is None else slots
        return blobs.pack(self.shape, blobs.dense(rows), slots, np.zeros(len(slots), np.int64))

    def unpack(self, stored: Sequence[bytes | None]) -> Rows:
        """Rows of the stored blobs, empty for None. Raises SchemaMismatchError on bytes of another declaration."""
        refuse_other_schema(self.schema, stored)
        rows = blobs.unpack(self.shape, stored, lambda heads: np.zeros(len(heads), np.int64))
        return rows.view(self.dtype)[:, 0]


def fold_items(layout: ItemLayout, rows: Rows, slot: Slots, events: ItemEvents) -> Slots:
    """Fold E events into item `rows` at `slot` i64[E], in place; returns the slots touched, each once."""
    counted = layout.kind_column[events.kind] >= 0
    if not counted.all():
        slot, events = slot[counted], ItemEvents._make(column[counted] for column in events)
    if len(slot) == 0:
        return np.empty(0, np.int64)
    touched, group = np.unique(slot, return_inverse=True)
    before = rows["last_ms"][touched]
    after = before.copy()
    np.maximum.at(after, group, events.ts_ms)
    first = rows["first_ms"][touched]
    first[first == 0] = np.iinfo(np.int64).max
    np.minimum.at(first, group, events.ts_ms)
    _fold_windows(layout, rows, touched, group, events, before, after)
    _fold_profiles(layout, rows, touched, group, events, after)
    rows["schema"][touched], rows["last_ms"][touched], rows["first_ms"][touched] = layout.schema, after, first
    return touched


def _fold_windows(
    layout: ItemLayout, rows: Rows, touched: Slots, group: I64, events: ItemEvents, before: I64, after: I64
) -> None:
    declaration = layout.declaration
    hops = layout.hops
    column = layout.kind_column[events.kind]
    np.add.at(rows["totals"], (touched[group], column), np.uint32(1))
    top = after[:, None] // hops
    windows = rows["windows"][touched] * turn(before[:, None] // hops, top)[:, None, :, :]
    bucket = events.ts_ms[:, None] // hops
    inside = bucket > top[group] - BUCKETS
    cell = ((group * len(declaration.item_kinds) + column)[:, None] * len(hops) + np.arange(len(hops))) * BUCKETS
    np.add.at(windows.reshape(-1), (cell + bucket % BUCKETS)[inside], np.uint32(1))
    rows["windows"][touched] = windows


def _fold_profiles(layout: ItemLayout, rows: Rows, touched: Slots, group: I64, events: ItemEvents, after: I64) -> None:
    period_ms = layout.declaration.period_ms
    profiles = rows["profiles"][touched].astype(np.int64)
    old, new = rows["period"][touched].astype(np.int64), after // period_ms
    slots = np.arange(PERIODS)
    held = new[:, None] - (new[:, None] - slots) % PERIODS
    profiles *= (held <= old[:, None])[:, :, None]
    period = events.ts_ms // period_ms
    kept = period > new[group] - PERIODS
    width = profiles.shape[2]
    start = (group * PERIODS + period % PERIODS)[:, None] * width + layout.offsets[:-1]
    np.add.at(profiles.reshape(-1), (start + events.codes)[kept].reshape(-1), 1)
    rows["profiles"][touched] = np.minimum(profiles, 65_535)
    rows["period"][touched] = new


class ItemView(NamedTuple):
    """M items as read at a time: windows i32[M, K, W] decayed to now, totals, idle and age in ms (-1: never seen).

    K runs over `Declaration.item_kinds`; `profiles` maps each profile field to f32[M, size], the two periods blended.
    """

    windows: NDArray[np.int64]
    totals: NDArray[np.uint32]
    idle_ms: I64
    age_ms: I64
    profiles: dict[str, NDArray[np.float32]]


def decayed(windows: NDArray[np.integer], last_ms: I64, now_ms: int | I64, hops: I64) -> NDArray[np.int64]:
    """Counts of rings [N, K, W, BUCKETS], newest event at `last_ms` i64[N], as a reader at `now_ms` sees them."""
    top = last_ms[:, None] // hops
    oldest = (np.broadcast_to(np.asarray(now_ms, np.int64), last_ms.shape)[:, None] // hops) - BUCKETS
    slots = np.arange(BUCKETS)
    held = top[..., None] - (top[..., None] - slots) % BUCKETS
    alive = held > oldest[..., None]
    return np.asarray(np.einsum("nkwb,nwb->nkw", windows, alive, dtype=np.int64))


def item_view(layout: ItemLayout, rows: Rows, now_ms: int | I64, *, profiles: bool = True) -> ItemView:
    """Rows as a reader at `now_ms` (one time, or one for each row) sees them."""
    seen = rows["schema"] != 0
    return ItemView(
        windows=decayed(rows["windows"], rows["last_ms"], now_ms, layout.hops),
        totals=rows["totals"].copy(),
        idle_ms=np.where(seen, np.maximum(now_ms - rows["last_ms"], 0), -1),
        age_ms=np.where(seen, np.maximum(now_ms - rows["first_ms"], 0), -1),
        profiles=_profiles(layout, rows, now_ms) if profiles else {},
    )


def _profiles(layout: ItemLayout, rows: Rows, now_ms: int | I64) -> dict[str, NDArray[np.float32]]:
    period_ms = layout.declaration.period_ms
    now_period = now_ms // period_ms
    fresh = np.asarray(1.0 - (now_ms % period_ms) / period_ms, np.float32)
    newest = rows["period"].astype(np.int64)
    blended = np.zeros((len(rows), int(layout.offsets[-1])), np.float32)
    for slot in range(PERIODS):
        period = newest - (newest - slot) % PERIODS
        weight = np.where(
            period >= now_period, np.float32(1.0), np.where(period == now_period - 1, fresh, np.float32(0.0))
        )
        blended += rows["profiles"][:, slot] * weight[:, None].astype(np.float32)
    return {name: blended[:, layout.field(name)] for name in layout.declaration.profile_names}
