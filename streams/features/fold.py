"""Fold a run of events into users' rows, in place; a row is a function of the set of its events, not of their order."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features.columns import Columns
from streams.features.declaration import BUCKETS, HOUR, WEEKDAY
from streams.features.groups import Groups, sorting
from streams.features.history import entries_of, fold_history
from streams.features.rows import Layout, Rows, Slots

I64 = NDArray[np.int64]


class Folded(NamedTuple):
    """What a fold did: slots it touched i64[U], the most urgent class of each u8[U], events late by outcome.

    `late`: events older than the user's newest one: "kept" (counted in every window), "partial", "dropped" (in none).
    """

    touched: Slots
    priority: NDArray[np.uint8]
    late: dict[str, int]


def fold_users(layout: Layout, rows: Rows, slot: Slots, columns: Columns) -> Folded:
    """Fold E events into `rows` at `slot` i64[E], in place; never raises on decoded events."""
    if columns.size == 0:
        return Folded(np.empty(0, np.int64), np.empty(0, np.uint8), {})
    entry = entries_of(layout, columns)
    groups = Groups.of(sorting(slot, entry), slot)
    ordered = columns.take(groups.order)
    rows["schema"][groups.slots] = layout.schema
    before, after = _fold_times(rows, groups, ordered.ts_ms)
    late = _fold_windows(layout, rows, groups, ordered, before, after)
    _fold_totals(rows, groups, ordered.kind)
    _fold_sums(layout, rows, slot, columns)
    fold_history(layout, rows, groups, ordered.kind, entry[groups.order])
    _fold_scene(layout, rows, groups, ordered)
    priority = np.minimum.reduceat(layout.kinds.priority[ordered.kind], groups.starts)
    return Folded(groups.slots, np.asarray(priority), late)


def _fold_times(rows: Rows, groups: Groups, ts_ms: I64) -> tuple[I64, I64]:
    before = rows["last_ms"][groups.slots]
    after = np.maximum(before, np.maximum.reduceat(ts_ms, groups.starts))
    first = rows["first_ms"][groups.slots]
    earliest = np.minimum.reduceat(ts_ms, groups.starts)
    rows["last_ms"][groups.slots] = after
    rows["first_ms"][groups.slots] = np.where(first == 0, earliest, np.minimum(first, earliest))
    return before, after


def turn(top_before: I64, top_after: I64) -> NDArray[np.uint8]:
    """1 for the slots that keep their count when a ring's newest bucket moves on, else 0: u8[..., BUCKETS]."""
    steps = np.minimum(top_after - top_before, BUCKETS)
    return np.asarray(_KEPT[steps * BUCKETS + top_after % BUCKETS])


# A slot keeps its count when the bucket it holds after the move is one from before: that many steps back or more.
_STEPS_BACK = (np.arange(BUCKETS)[:, None] - np.arange(BUCKETS)) % BUCKETS
_KEPT = (np.arange(BUCKETS + 1)[:, None, None] <= _STEPS_BACK).astype(np.uint8).reshape(-1, BUCKETS)


def _fold_windows(
    layout: Layout, rows: Rows, groups: Groups, ordered: Columns, before: I64, after: I64
) -> dict[str, int]:
    hops = layout.hops
    top, top_before = after[:, None] // hops, before[:, None] // hops
    windows = rows["windows"][groups.slots]
    if (top != top_before).any():
        windows *= turn(top_before, top)[:, None, :, :]
    column = layout.kinds.window[ordered.kind]
    bucket = ordered.ts_ms[:, None] // hops
    inside = (bucket > top[groups.group] - BUCKETS) & (column >= 0)[:, None]
    kinds, width = windows.shape[1:3]
    cell = ((groups.group * kinds + column)[:, None] * width + np.arange(width)) * BUCKETS
    cell += bucket % BUCKETS
    _add_saturating(windows, cell[inside], int(groups.counts.max()))
    rows["windows"][groups.slots] = windows
    return _lateness(inside, column >= 0, ordered.ts_ms < before[groups.group])


def _add_saturating(counts: NDArray[np.uint8], cell: I64, most: int) -> None:
    """Add one to the flat `cell`s of `counts`, staying at 255; no cell is named more than `most` times."""
    added = np.zeros(counts.shape, np.uint8 if most <= 255 else np.uint16)
    np.add.at(added.reshape(-1), cell, added.dtype.type(1))
    np.minimum(added, 255 - counts, out=added)
    np.add(counts, added, out=counts, casting="unsafe")


def _lateness(inside: NDArray[np.bool_], counted: NDArray[np.bool_], late: NDArray[np.bool_]) -> dict[str, int]:
    late = late & counted
    if not late.any():
        return {}
    width = inside.shape[1]
    events = np.bincount(np.count_nonzero(inside[late], axis=1), minlength=width + 1).tolist()
    outcome = {"kept": events[width], "partial": sum(events[1:width]), "dropped": events[0]}
    return {k: n for k, n in outcome.items() if n}


def _fold_totals(rows: Rows, groups: Groups, kind: NDArray[np.uint8]) -> None:
    totals = rows["totals"][groups.slots]
    added = np.bincount(groups.group * totals.shape[1] + kind, minlength=totals.size).reshape(totals.shape)
    rows["totals"][groups.slots] = np.minimum(totals + added, 2**32 - 1)


def _fold_sums(layout: Layout, rows: Rows, slot: Slots, columns: Columns) -> None:
    active = layout.kinds.active[columns.kind]
    if layout.declaration.hour_of_week:
        hour, weekday = (columns.codes[:, place].astype(np.int64) - 1 for place in (HOUR, WEEKDAY))
        _count(rows["hour_of_week"], slot[active], (24 * weekday + hour)[active], 255)
    priced = np.flatnonzero(active & (columns.price_minor > 0))
    if len(priced):
        np.add.at(rows["price_sum_minor"], slot[priced], columns.price_minor[priced])
        np.add.at(rows["priced"], slot[priced], np.uint32(1))
    stayed = np.flatnonzero(columns.dwell_ms >= 1000)
    if len(stayed):
        np.add.at(rows["dwell_s"], slot[stayed], (columns.dwell_ms[stayed] // 1000).astype(np.uint32))
    for name, code in layout.kinds.marks.items():
        if code >= 0 and (said := columns.kind == code).any():
            np.maximum.at(rows[name], slot[said], columns.ts_ms[said])


def _count(table: NDArray[np.integer], slot: Slots, column: NDArray[np.integer], ceiling: int) -> None:
    """Add one to `table[slot, column]` for each pair, saturating at `ceiling`."""
    if len(slot) == 0:
        return
    width = table.shape[1]
    cells = np.sort(slot * width + column)
    ends = np.flatnonzero(cells[1:] != cells[:-1]) + 1
    starts, ends = np.concatenate([[0], ends]), np.concatenate([ends, [len(cells)]])
    row, column = np.divmod(cells[starts], width)
    table[row, column] = np.minimum(table[row, column] + (ends - starts), ceiling)


def _fold_scene(layout: Layout, rows: Rows, groups: Groups, ordered: Columns) -> None:
    active = layout.kinds.active[ordered.kind]
    width = len(layout.declaration.scene)
    codes = np.ascontiguousarray(ordered.codes[:, :width]).view(f"V{width}").reshape(-1)
    _latest(rows, "scene_ms", groups, ordered.ts_ms, active & ordered.scened, {"scene": codes})
    placed = active & ((ordered.zone > 0) | (ordered.locale != b""))
    _latest(rows, "place_ms", groups, ordered.ts_ms, placed, {"zone": ordered.zone, "locale": ordered.locale})


def _latest(
    rows: Rows,
    stamp: str,
    groups: Groups,
    ts_ms: I64,
    chosen: NDArray[np.bool_],
    values: dict[str, NDArray[np.generic]],
) -> None:
    """Write the values of each user's newest chosen event; at equal times the larger (values...) wins."""
    if not chosen.any():
        return
    newest = np.maximum.reduceat(np.where(chosen, ts_ms, 0), groups.starts)
    event = _largest(np.flatnonzero(chosen & (ts_ms == newest[groups.group])), groups.group, values)
    users, new_ms = groups.slots[groups.group[event]], ts_ms[event]
    old_ms = rows[stamp][users]
    wins = new_ms > old_ms
    for i in np.flatnonzero(new_ms == old_ms):
        held = tuple(_plain(rows[name][users[i]]) for name in values)
        wins[i] = tuple(_plain(column[event[i]]) for column in values.values()) > held
    rows[stamp][users[wins]] = new_ms[wins]
    for name, column in values.items():
        field = rows[name]
        picked = column[event[wins]]
        field[users[wins]] = picked.view(np.uint8).reshape(-1, field.shape[1]) if field.ndim == 2 else picked


def _largest(event: I64, group: I64, values: dict[str, NDArray[np.generic]]) -> I64:
    """One event a group: the one with the larger values; `event` is sorted by group."""
    owner = group[event]
    if (owner[1:] == owner[:-1]).any():
        ranked = [np.unique(column[event], return_inverse=True)[1].reshape(-1) for column in reversed(values.values())]
        event = event[np.lexsort((*ranked, owner))]
        owner = group[event]
    return np.asarray(event[np.append(owner[1:] != owner[:-1], True)])


def _plain(value: np.generic | NDArray[np.generic]) -> bytes | int:
    return value.tobytes() if isinstance(value, np.ndarray | np.void) else value.item()
