"""A user's history: the newest entries in order, whatever the order in which their events arrive."""

import numpy as np
from numpy.typing import NDArray

from streams.features.columns import Columns
from streams.features.groups import Groups, sorting
from streams.features.rows import ENTRY, Layout, Rows, Slots

_PARTS = np.dtype([("device", "u1"), ("page", "u1"), ("dwell", "u1"), ("kind", "u1"), ("ts_s", "<u4"), ("item", "<u8")])
"""ENTRY, its key in parts."""

PLAIN = np.dtype("V16")
"""ENTRY without its fields, which numpy joins faster."""

I64 = NDArray[np.int64]


def entries_of(layout: Layout, columns: Columns) -> NDArray[np.void]:
    """History entries of the events, dtype ENTRY."""
    names = layout.declaration.scene_names
    entry = np.zeros(columns.size, _PARTS)
    entry["ts_s"] = columns.ts_ms // 1000
    entry["kind"] = columns.kind
    entry["dwell"] = dwell_code(columns.dwell_ms)
    for name in ("page", "device"):
        if name in names:
            entry[name] = columns.codes[:, names.index(name)]
    entry["item"] = columns.item
    return entry.view(ENTRY)


def dwell_code(dwell_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Length of a stay on a log scale: 0 unknown, else 1 + floor(log2(1 + seconds)), at most 32."""
    code = np.frexp(dwell_ms // 1000 + 1.0)[1]
    return np.asarray(np.minimum(code, 32) * (dwell_ms > 0), np.uint8)


def fold_history(layout: Layout, rows: Rows, groups: Groups, kind: NDArray[np.uint8], entry: NDArray[np.void]) -> None:
    """Put the sorted events' entries into their users' histories, which keep the newest `declaration.history`."""
    kept = layout.kinds.history[kind]
    slot = groups.slots[groups.group]
    if not kept.all():
        entry, slot = entry[kept], slot[kept]
    if len(entry) == 0:
        return
    part = Groups.sorted(slot)
    n = rows["history_n"][part.slots].astype(np.int64)
    late = _late(rows["history"], part.slots, n - 1, entry[part.starts])
    if len(late):
        entry, slot = _reopened(rows, part, n, late, entry)
        part = Groups.sorted(slot)
        n = rows["history_n"][part.slots].astype(np.int64)
    _append(rows, part, n, entry)


def _late(history: NDArray[np.void], slots: Slots, last: I64, entry: NDArray[np.void]) -> I64:
    """Positions of the users whose first new entry sorts before the `last` that their history holds."""
    held = history[slots, np.maximum(last, 0)]
    key, held_key = entry["key"], held["key"]
    before = (key < held_key) | ((key == held_key) & (entry["item"] < held["item"]))
    return np.flatnonzero(before & (last >= 0))


def _reopened(rows: Rows, part: Groups, n: I64, late: I64, entry: NDArray[np.void]) -> tuple[NDArray[np.void], Slots]:
    """Take what does not sort before the new entries out of the `late` users' histories, and sort it in with them."""
    slots, n = part.slots[late], n[late]
    overtaken = _overtaken(rows["history"], slots, n, entry["key"][part.starts[late]])
    rows["history_n"][slots] = n - overtaken
    owner = np.repeat(slots, overtaken)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(overtaken) - overtaken, overtaken)
    held = rows["history"][owner, np.repeat(n - overtaken, overtaken) + rank]
    reopened = np.zeros(len(part.slots), np.bool_)
    reopened[late] = True
    mine = reopened[part.group]
    slot = part.slots[part.group]
    mixed = np.concatenate([held.view(PLAIN), entry[mine].view(PLAIN)]).view(ENTRY)
    mixed_slot = np.concatenate([owner, slot[mine]])
    order = sorting(mixed_slot, mixed)
    entry = np.concatenate([entry[~mine].view(PLAIN), mixed[order].view(PLAIN)]).view(ENTRY)
    return entry, np.concatenate([slot[~mine], mixed_slot[order]])


def _overtaken(history: NDArray[np.void], slots: Slots, n: I64, key: NDArray[np.uint64]) -> I64:
    """How many of the `n` i64[U] entries of each history do not sort before `key`, by bisection."""
    keys, capacity = history["key"], history.shape[1]
    before = np.zeros(len(slots), np.int64)
    for step in 1 << np.arange(capacity.bit_length())[::-1]:
        probe = before + step
        before += step * ((probe <= n) & (keys[slots, np.minimum(probe, capacity) - 1] < key))
    return n - before


def _append(rows: Rows, part: Groups, n: I64, entry: NDArray[np.void]) -> None:
    """Append sorted entries to the histories of `part`, which hold `n` i64[U]; the oldest beyond the capacity go."""
    history = rows["history"]
    capacity = history.shape[1]
    end = n + part.counts
    over = np.maximum(end - capacity, 0)
    _shift(history, part.slots, over)
    position = np.arange(len(entry)) + (n - over - part.starts)[part.group]
    slot = part.slots[part.group]
    if (position < 0).any():
        real = position >= 0
        entry, slot, position = entry[real], slot[real], position[real]
    history[slot, position] = entry
    rows["history_n"][part.slots] = end - over


def _shift(history: NDArray[np.void], slots: Slots, by: I64) -> None:
    """Drop the `by` oldest entries of the full histories at `slots`."""
    full = np.flatnonzero(by)
    if len(full):
        capacity = history.shape[1]
        slots = slots[full, None]
        source = np.minimum(np.arange(capacity) + by[full, None], capacity - 1)
        history[slots[:, 0]] = history[slots, source]
