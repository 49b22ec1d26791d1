"""Fold a run of events into users' rows, in place; a row is a function of the set of its events, not of their order."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features.columns import Columns
from streams.features.declaration import BUCKETS, Declaration
from streams.features.rows import ENTRY, Layout, Rows, Slots

NO_RESCORE = 255
"""Priority of a user whom no event of the run asks to rescore."""

TAIL = 32
"""Entries of a history that a late event is first merged with; an older one is merged with all of them."""

I64 = NDArray[np.int64]


class Folded(NamedTuple):
    """What a fold did: slots it touched i64[U], the most urgent class of each u8[U], events late by outcome.

    `late`: events older than the user's newest one: "kept" (counted in every window), "partial", "dropped" (in none).
    """

    touched: Slots
    priority: NDArray[np.uint8]
    late: dict[str, int]


class Groups(NamedTuple):
    """Events sorted by user: `order` i64[E] sorts them, `group` i64[E] numbers the user, `starts` i64[U] begins it."""

    order: I64
    group: I64
    starts: I64
    slots: Slots

    @classmethod
    def of(cls, order: I64, slot: Slots) -> "Groups":
        """Groups of events that `order` sorts by slot."""
        ordered = slot[order]
        first = np.empty(len(ordered), np.bool_)
        first[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        return cls(order, np.cumsum(first) - 1, starts, ordered[starts])


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


def fold_users(layout: Layout, rows: Rows, slot: Slots, columns: Columns) -> Folded:
    """Fold E events into `rows` at `slot` i64[E], in place; never raises on decoded events."""
    if columns.size == 0:
        return Folded(np.empty(0, np.int64), np.empty(0, np.uint8), {})
    declaration = layout.declaration
    entry = entries_of(layout, columns)
    groups = Groups.of(np.lexsort((entry["item"], entry["key"], slot)), slot)
    ordered = columns.take(groups.order)
    rows["schema"][groups.slots] = layout.schema
    before, after = _fold_times(rows, groups, ordered.ts_ms)
    late = _fold_windows(declaration, rows, groups, ordered, before, after)
    _fold_sums(declaration, rows, slot, columns)
    _fold_history(layout, rows, groups, ordered.kind, entry[groups.order])
    _fold_scene(declaration, rows, slot, columns)
    return Folded(groups.slots, _priority(declaration, groups, ordered.kind), late)


def _fold_times(rows: Rows, groups: Groups, ts_ms: I64) -> tuple[I64, I64]:
    before = rows["last_ms"][groups.slots]
    after = np.maximum(before, np.maximum.reduceat(ts_ms, groups.starts))
    first = rows["first_ms"][groups.slots]
    earliest = np.minimum.reduceat(ts_ms, groups.starts)
    rows["last_ms"][groups.slots] = after
    rows["first_ms"][groups.slots] = np.where(first == 0, earliest, np.minimum(first, earliest))
    return before, after


def turn(top_before: I64, top_after: I64) -> NDArray[np.bool_]:
    """Which of the BUCKETS slots keep their count when a ring's newest bucket moves: bool[..., BUCKETS]."""
    slots = np.arange(BUCKETS)
    held = top_after[..., None] - (top_after[..., None] - slots) % BUCKETS
    return np.asarray(held <= top_before[..., None])


def _fold_windows(
    declaration: Declaration, rows: Rows, groups: Groups, ordered: Columns, before: I64, after: I64
) -> dict[str, int]:
    hops = np.array([w.hop_ms for w in declaration.windows], np.int64)
    top = after[:, None] // hops
    windows = rows["windows"][groups.slots]
    moved = top != before[:, None] // hops
    if moved.any():
        keep = turn(before[:, None] // hops, top)
        windows *= keep[:, None, :, :]
    column = np.array([_position(declaration, k.name) for k in declaration.kinds])[ordered.kind]
    bucket = ordered.ts_ms[:, None] // hops
    inside = (bucket > top[groups.group] - BUCKETS) & (column >= 0)[:, None]
    width = len(declaration.windows)
    cell = ((groups.group * len(declaration.window_kinds) + column)[:, None] * width + np.arange(width)) * BUCKETS
    cell += bucket % BUCKETS
    counts = windows.astype(np.uint16)
    np.add.at(counts.reshape(-1), cell[inside], np.uint16(1))
    rows["windows"][groups.slots] = np.minimum(counts, 255, out=counts)
    return _lateness(inside, column >= 0, ordered.ts_ms < before[groups.group])


def _position(declaration: Declaration, name: str) -> int:
    return next((i for i, k in enumerate(declaration.window_kinds) if k.name == name), -1)


def _lateness(inside: NDArray[np.bool_], counted: NDArray[np.bool_], late: NDArray[np.bool_]) -> dict[str, int]:
    late = late & counted
    if not late.any():
        return {}
    hits = inside[late].sum(1)
    width = inside.shape[1]
    outcome = {
        "kept": int((hits == width).sum()),
        "partial": int(((hits > 0) & (hits < width)).sum()),
        "dropped": int((hits == 0).sum()),
    }
    return {k: n for k, n in outcome.items() if n}


def _fold_sums(declaration: Declaration, rows: Rows, slot: Slots, columns: Columns) -> None:
    _count(rows["totals"], slot, columns.kind, 2**32 - 1)
    active = np.array([k.active for k in declaration.kinds])[columns.kind]
    if declaration.hour_of_week:
        hour = columns.codes[:, -3].astype(np.int64) - 1 + 24 * (columns.codes[:, -2].astype(np.int64) - 1)
        _count(rows["hour_of_week"], slot[active], hour[active], 255)
    priced = active & (columns.price_minor > 0)
    np.add.at(rows["price_sum_minor"], slot[priced], columns.price_minor[priced])
    np.add.at(rows["priced"], slot[priced], 1)
    stayed = columns.dwell_ms >= 1000
    np.add.at(rows["dwell_s"], slot[stayed], (columns.dwell_ms[stayed] // 1000).astype(np.uint32))
    for name in ("opted_out", "token_dead"):
        code = next((i for i, k in enumerate(declaration.kinds) if k.name == name), None)
        if code is not None and (said := columns.kind == code).any():
            np.maximum.at(rows[f"{name}_ms"], slot[said], columns.ts_ms[said])


def _count(table: NDArray[np.integer], slot: Slots, column: NDArray[np.integer], ceiling: int) -> None:
    """Add one to `table[slot, column]` for each pair, saturating at `ceiling`."""
    width = table.shape[1]
    cells, n = np.unique(slot * width + column, return_counts=True)
    at = (cells // width, cells % width)
    table[at] = np.minimum(table[at].astype(np.int64) + n, ceiling)


def _fold_history(layout: Layout, rows: Rows, groups: Groups, kind: NDArray[np.uint8], entry: NDArray[np.void]) -> None:
    kept = np.array([k.history for k in layout.declaration.kinds])[kind]
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


def _fold_scene(declaration: Declaration, rows: Rows, slot: Slots, columns: Columns) -> None:
    active = np.array([k.active for k in declaration.kinds])[columns.kind]
    scened = np.flatnonzero(active & columns.scened)
    width = len(declaration.scene)
    if len(scened):
        codes = np.ascontiguousarray(columns.codes[:, :width])
        _latest(rows, "scene_ms", slot, columns.ts_ms, scened, {"scene": codes.view(f"V{width}").reshape(-1)})
    placed = np.flatnonzero(active & ((columns.zone > 0) | (columns.locale != b"")))
    if len(placed):
        _latest(rows, "place_ms", slot, columns.ts_ms, placed, {"zone": columns.zone, "locale": columns.locale})


def _latest(
    rows: Rows, stamp: str, slot: Slots, ts_ms: I64, chosen: I64, values: dict[str, NDArray[np.generic]]
) -> None:
    """Write the values of each user's newest chosen event; at equal times the larger (time, values...) wins."""
    ranked = [np.unique(column[chosen], return_inverse=True)[1].reshape(-1) for column in reversed(values.values())]
    order = np.lexsort((*ranked, ts_ms[chosen], slot[chosen]))
    ordered = slot[chosen][order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    event = chosen[order[last]]
    users, new_ms = slot[event], ts_ms[event]
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


def _plain(value: np.generic | NDArray[np.generic]) -> bytes | int:
    return value.tobytes() if isinstance(value, np.ndarray | np.void) else value.item()


def _priority(declaration: Declaration, groups: Groups, kind: NDArray[np.uint8]) -> NDArray[np.uint8]:
    classes = [NO_RESCORE if k.priority is None else k.priority for k in declaration.kinds]
    return np.asarray(np.minimum.reduceat(np.array(classes, np.uint8)[kind], groups.starts))
