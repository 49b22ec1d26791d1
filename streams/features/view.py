"""A user's row as read at a time: windows decayed to now, the session derived from the history, newest first."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features.items import decayed
from streams.features.rows import Layout, Rows

I64 = NDArray[np.int64]


class UserView(NamedTuple):
    """U users as read at a time; K runs over `Declaration.window_kinds`, N over the history, newest entry first.

    `item` is 0 and `valid` False past the end of a history. `idle_ms`, `age_ms` are -1 for an unknown user.
    `session_n` counts the events of the last session that the history still holds; `in_session` says whether its gap
    has not yet passed. `scene` u8[U, S'] holds the declared fields only: hour, weekday and holiday belong to the moment
    of reading. `price_mean` is in major units, 0 where unknown.
    """

    windows: NDArray[np.int64]
    totals: NDArray[np.uint32]
    last_ms: I64
    idle_ms: I64
    age_ms: I64
    hour_of_week: NDArray[np.uint8]
    item: NDArray[np.uint64]
    ts_s: I64
    kind: NDArray[np.uint8]
    dwell: NDArray[np.uint8]
    page: NDArray[np.uint8]
    device: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    session_start_ms: I64
    session_last_ms: I64
    session_n: I64
    in_session: NDArray[np.bool_]
    scene: NDArray[np.uint8]
    scene_ms: I64
    zone: NDArray[np.uint32]
    locale: NDArray[np.bytes_]
    opted_out_ms: I64
    token_dead_ms: I64
    price_mean: NDArray[np.float32]
    dwell_s: NDArray[np.uint32]

    @property
    def size(self) -> int:
        """Number of users."""
        return len(self.last_ms)


def user_view(layout: Layout, rows: Rows, now_ms: int | I64) -> UserView:
    """Rows as a reader at `now_ms` (one time, or one for each row) sees them."""
    declaration = layout.declaration
    now = np.broadcast_to(np.asarray(now_ms, np.int64), (len(rows),))
    seen = rows["schema"] != 0
    key, item, valid = _newest_first(rows)
    kind = (key >> np.uint64(24)).astype(np.uint8)
    ts_s = (key >> np.uint64(32)).astype(np.int64)
    start_s, last_s, session_n = _sessions(layout, ts_s, kind, valid)
    priced = np.maximum(rows["priced"], 1)
    return UserView(
        windows=decayed(rows["windows"], rows["last_ms"], now, layout.hops),
        totals=rows["totals"].copy(),
        last_ms=rows["last_ms"].copy(),
        idle_ms=np.where(seen, np.maximum(now - rows["last_ms"], 0), -1),
        age_ms=np.where(seen, np.maximum(now - rows["first_ms"], 0), -1),
        hour_of_week=(
            rows["hour_of_week"].copy() if declaration.hour_of_week else np.zeros((len(rows), 168), np.uint8)
        ),
        item=item,
        ts_s=ts_s,
        kind=kind,
        dwell=(key >> np.uint64(16)).astype(np.uint8),
        page=(key >> np.uint64(8)).astype(np.uint8),
        device=key.astype(np.uint8),
        valid=valid,
        session_start_ms=start_s * 1000,
        session_last_ms=last_s * 1000,
        session_n=session_n,
        in_session=(session_n > 0) & (now - last_s * 1000 <= declaration.session_gap_ms),
        scene=rows["scene"].copy(),
        scene_ms=rows["scene_ms"].copy(),
        zone=rows["zone"].copy(),
        locale=rows["locale"].copy(),
        opted_out_ms=rows["opted_out_ms"].copy(),
        token_dead_ms=rows["token_dead_ms"].copy(),
        price_mean=(rows["price_sum_minor"] / priced / 100).astype(np.float32),
        dwell_s=rows["dwell_s"].copy(),
    )


def _newest_first(rows: Rows) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    n = rows["history_n"].astype(np.int64)
    width = max(int(n.max(initial=0)), 1)
    source = n[:, None] - 1 - np.arange(width)
    valid = source >= 0
    entries = rows["history"][np.arange(len(rows))[:, None], np.maximum(source, 0)]
    zero = np.uint64(0)
    return np.where(valid, entries["key"], zero), np.where(valid, entries["item"], zero), valid


def _sessions(layout: Layout, ts_s: I64, kind: NDArray[np.uint8], valid: NDArray[np.bool_]) -> tuple[I64, I64, I64]:
    """Start and end in seconds and size of each user's last session: a chain of active entries with no gap too long."""
    gap_s = layout.declaration.session_gap_ms // 1000
    active = valid & layout.kinds.active[np.minimum(kind, len(layout.declaration.kinds) - 1)]
    order = np.argsort(~active, axis=1, kind="stable")
    times = np.take_along_axis(ts_s, order, 1)
    count = active.sum(1)
    linked = (times[:, :-1] - times[:, 1:] <= gap_s) & (np.arange(1, times.shape[1]) < count[:, None])
    size = np.where(count > 0, 1 + np.logical_and.accumulate(linked, axis=1).sum(1), 0)
    start = np.take_along_axis(times, np.maximum(size - 1, 0)[:, None], 1)[:, 0]
    return np.where(count > 0, start, 0), np.where(count > 0, times[:, 0], 0), size
