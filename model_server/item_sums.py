"""Item rows as rankers read them: summed once when a row arrives; an item as of any moment is then a few look-ups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streams.features.declaration import BUCKETS
from streams.features.items import PERIODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.features.items import ItemLayout
    from streams.features.rows import Rows

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Index = NDArray[np.integer]
When = int | I64
"""A time in epoch ms for all rows that are read, or one for each."""

STRONG_WINDOWS = 2
"""So many windows, the longest, are summed over the strong kinds too."""
COLUMNS = ("first_ms", "last_ms", "totals", "strong", "counts", "period", "profiles", "known")


@dataclass(frozen=True)
class ItemSums:
    """M items. H: the W windows of all kinds, then the longest ones of the strong kinds; S, P as `ItemLayout.offsets`.

    first_ms, last_ms i64[M]: first and newest event, 0 for an item never seen. totals, strong u32[M]: events ever, and
    those of strong kinds. counts u32[M, H, BUCKETS + 1]: events in the newest n buckets that hold any, by n.
    profiles u16[M, S, 2]: events by code, fields side by side, in the newest period i64[M] and in the one before it;
    known f32[M, P, 2]: the same over the known codes of each field.
    """

    layout: ItemLayout
    first_ms: I64
    last_ms: I64
    totals: U32
    strong: U32
    counts: U32
    period: I64
    profiles: NDArray[np.uint16]
    known: F32

    @classmethod
    def of(cls, layout: ItemLayout, rows: Rows) -> ItemSums:
        """Sums of rows; none of them overflows where no item has four milliards of events."""
        rings, totals = rows["windows"], rows["totals"]
        strong = np.flatnonzero([kind.strong for kind in layout.declaration.item_kinds])
        longest = rings[:, strong, -STRONG_WINDOWS:]
        events = np.concatenate((rings.sum(1, dtype=np.uint32), longest.sum(1, dtype=np.uint32)), axis=1)
        period, first = rows["period"].astype(np.int64), layout.offsets[:-1]
        slot = (period[:, None] - np.arange(PERIODS)) % PERIODS
        profiles = np.take_along_axis(rows["profiles"], slot[:, :, None], 1)
        known = np.add.reduceat(profiles, first, axis=2, dtype=np.float32) - profiles[:, :, first]
        return cls(
            layout=layout,
            first_ms=rows["first_ms"].copy(),
            last_ms=rows["last_ms"].copy(),
            totals=totals.sum(1, dtype=np.uint32),
            strong=totals[:, strong].sum(1, dtype=np.uint32),
            counts=_newest(events, rows["last_ms"][:, None] // _hops(layout)),
            period=period,
            profiles=profiles.transpose(0, 2, 1).copy(),
            known=known.transpose(0, 2, 1).copy(),
        )

    def __len__(self) -> int:
        return len(self.totals)

    def at(self, index: Index | slice) -> ItemSums:
        """Those at `index`."""
        return self._each(lambda column: column[index])

    def put(self, index: Index, other: ItemSums) -> None:
        """Take over the items of `other` at `index`."""
        for name in COLUMNS:
            getattr(self, name)[index] = getattr(other, name)

    def joined(self, other: ItemSums) -> ItemSums:
        """These items, then the others."""
        both: dict[str, Any] = {name: np.concatenate((getattr(self, name), getattr(other, name))) for name in COLUMNS}
        return replace(self, **both)

    def grown(self, room: int) -> ItemSums:
        """The same with room for so many items."""
        return self._each(lambda column: _grown(column, room))

    def ages_ms(self, row: Index | slice, now_ms: When) -> tuple[I64, I64]:
        """(since the newest event, since the first one) i64[R] of rows at `now_ms`, -1 for an item never seen."""
        first_ms, last_ms = self.first_ms[row], self.last_ms[row]
        seen = first_ms > 0
        newest, first = np.maximum(now_ms - last_ms, 0), np.maximum(now_ms - first_ms, 0)
        return np.where(seen, newest, -1), np.where(seen, first, -1)

    def windows(self, row: Index | slice, now_ms: When) -> U32:
        """Events u32[R, H] in the windows of rows, as a reader at `now_ms` sees them: see `streams.features.items`."""
        hops, last_ms = _hops(self.layout), self.last_ms[row]
        cells = BUCKETS + 1
        first = (np.arange(len(self))[row] if isinstance(row, slice) else row) * (len(hops) * cells)
        found = np.empty((len(hops), len(last_ms)), np.int64)
        for window, hop_ms in enumerate(hops.tolist()):  # Division by one number is four times as fast as by an array.
            passed = now_ms // hop_ms - last_ms // hop_ms
            found[window] = first + window * cells + np.clip(BUCKETS - passed, 0, BUCKETS)
        return np.take(self.counts, found.T)

    def weights(self, row: Index | slice, now_ms: When) -> F32:
        """What the two periods of the profiles weigh, f32[2, R], at `now_ms`: the one before the running one fades."""
        period_ms = self.layout.declaration.period_ms
        now_period, fresh = now_ms // period_ms, np.asarray(1.0 - (now_ms % period_ms) / period_ms, np.float32)
        period = np.stack((self.period[row], self.period[row] - 1))
        return np.where(period >= now_period, np.float32(1), np.where(period == now_period - 1, fresh, np.float32(0)))

    def profile(self, now_ms: int) -> F32:
        """Events by code f32[M, S] of all items at `now_ms`."""
        newest, before = self.weights(slice(None), now_ms)
        blended: F32 = self.profiles[:, :, 0] * newest[:, None]
        blended += self.profiles[:, :, 1] * before[:, None]
        return blended

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> ItemSums:
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in COLUMNS}
        return replace(self, **changed)


def _hops(layout: ItemLayout) -> I64:
    """Length of a bucket of each of the H windows."""
    return np.concatenate((layout.hops, layout.hops[-STRONG_WINDOWS:]))


def _newest(rings: U32, top: I64) -> U32:
    """Events u32[N, H, BUCKETS + 1] in the newest n buckets of rings u32[N, H, BUCKETS], `top` i64[N, H] the newest."""
    slot = (top[:, :, None] - np.arange(BUCKETS)) % BUCKETS
    counts = np.zeros((*top.shape, BUCKETS + 1), np.uint32)
    np.cumsum(np.take_along_axis(rings, slot, 2), axis=2, dtype=np.uint32, out=counts[:, :, 1:])
    return counts


def _grown(column: NDArray[Any], room: int) -> NDArray[Any]:
    """A longer array that begins with this one; memory that nobody writes costs nothing."""
    grown = np.zeros((room, *column.shape[1:]), column.dtype)
    grown[: len(column)] = column
    return grown
