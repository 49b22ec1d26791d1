"""A user's history: the newest entries in order, whatever the order in which their events arrive."""

import numpy as np
from numpy.typing import NDArray

from streams.features.columns import Columns
from streams.features.groups import Groups
from streams.features.rows import ENTRY, Layout, Rows, Slots

TAIL = 32
"""Entries of a history that a late event is first merged with; an older one is merged with all of them."""

I64 = NDArray[np.int64]


def entries_of(layout: Layout, columns: Columns) -> NDArray[np.void]:
    """History entries of the events, dtype ENTRY."""
    names = layout.declaration.scene_names
    entry = np.empty(columns.size, ENTRY)
    key = (columns.ts_ms // 1000).astype(np.uint64) << np.uint64(8)
    for code in (columns.kind, dwell_code(columns.dwell_ms)):
        key = (key | code) << np.uint64(8)
    key |= columns.codes[:, names.index("page")] if "page" in names else np.uint64(0)
    key <<= np.uint64(8)
    entry["key"] = key | (columns.codes[:, names.index("device")] if "device" in names else np.uint64(0))
    entry["item"] = columns.item
    return entry


def dwell_code(dwell_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Length of a stay on a log scale: 0 unknown, else 1 + floor(log2(1 + seconds)), at most 32."""
    seconds = np.maximum(dwell_ms, 0) // 1000
    code = np.where(dwell_ms > 0, np.frexp(1.0 + seconds)[1], 0)
    return np.minimum(code, 32).astype(np.uint8)


def fold_history(layout: Layout, rows: Rows, groups: Groups, kind: NDArray[np.uint8], entry: NDArray[np.void]) -> None:
    """Put the sorted events' entries into their users' histories, which keep the newest `declaration.history`."""
    kept = layout.kinds.history[kind]
    entry, slot = entry[kept], groups.slots[groups.group[kept]]
    if len(entry) == 0:
        return
    part = Groups.of(np.arange(len(entry)), slot)
    counts = np.diff(part.starts, append=len(entry))
    first = entry[part.starts]
    n = rows["history_n"][part.slots].astype(np.int64)
    capacity = layout.declaration.history
    appended = _not_before(rows, part.slots, n - 1, n, first)
    tail = min(TAIL, capacity)
    shallow = ~appended & _not_before(rows, part.slots, n - tail, n, first)
    for chosen, depth in ((appended, 0), (shallow, tail), (~appended & ~shallow, capacity)):
        if chosen.any():
            _merge(rows["history"], rows["history_n"], part, counts, chosen, depth, entry)


def _not_before(rows: Rows, slots: Slots, position: I64, n: I64, entry: NDArray[np.void]) -> NDArray[np.bool_]:
    """Whether `entry` sorts at or after the history entry at `position` (before the start: always)."""
    held = rows["history"][slots, np.clip(position, 0, None)]
    later = (entry["key"] > held["key"]) | ((entry["key"] == held["key"]) & (entry["item"] >= held["item"]))
    return np.asarray(later | (position < 0) | (n == 0))


def _merge(
    history: NDArray[np.void],
    history_n: NDArray[np.uint16],
    part: Groups,
    counts: I64,
    chosen: NDArray[np.bool_],
    depth: int,
    entry: NDArray[np.void],
) -> None:
    """Merge the new entries of the chosen users with the newest `depth` entries of their histories."""
    slots, fresh = part.slots[chosen], counts[chosen]
    capacity = history.shape[1]
    n = history_n[slots].astype(np.int64)
    held = np.minimum(n, depth)
    width = depth + int(fresh.max())
    merged = np.zeros((len(slots), width), ENTRY)
    row = np.arange(len(slots))
    if depth:
        column = np.arange(depth)
        source = n[:, None] - held[:, None] + column
        inside = column < held[:, None]
        merged[:, :depth][inside] = history[slots[:, None], np.minimum(source, capacity - 1)][inside]
    mine = chosen[part.group]
    rank = np.arange(len(entry)) - part.starts[part.group]
    number = np.cumsum(chosen) - 1
    right = width - fresh[number[part.group[mine]]] + rank[mine]
    merged[number[part.group[mine]], right] = entry[mine]
    if depth:
        merged = merged[row[:, None], np.lexsort((merged["item"], merged["key"]), axis=1)]
    after = np.minimum(n + fresh, capacity)
    _shift(history, slots, n + fresh - after)
    position = after[:, None] - width + np.arange(width)
    real = (position >= 0) & (np.arange(width) >= width - (held + fresh)[:, None])
    user, column = np.nonzero(real)
    history[slots[user], position[user, column]] = merged[user, column]
    history_n[slots] = after


def _shift(history: NDArray[np.void], slots: Slots, by: I64) -> None:
    """Drop the `by` oldest entries of the full histories at `slots`."""
    full = by > 0
    if full.any():
        capacity = history.shape[1]
        source = np.minimum(np.arange(capacity) + by[full][:, None], capacity - 1)
        history[slots[full]] = history[slots[full][:, None], source]
