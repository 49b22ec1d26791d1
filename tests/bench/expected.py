"""What every row must hold, computed from the whole history at once and never folded: the oracle of the benchmarks."""

import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.reference import BUCKETS, ENTRY, GAP_MS, HEADER, HISTORY, HOPS_MS, KINDS, ROW_BYTES
from tests.bench.traffic import WIRE, Traffic

I64 = NDArray[np.int64]


class Users(NamedTuple):
    """U users of the reference work, sorted by id; windows u8[U, K, W, BUCKETS], K in the order of `reference.KINDS`.

    `item`, `ts_s` [U, HISTORY]: the last arrivals, newest first, 0 past the end. `session_n` and `start_ms` are those
    of a session cut where an arrival is later than all before it by more than the gap.
    """

    user: I64
    last_ms: I64
    first_ms: I64
    events: I64
    windows: NDArray[np.uint8]
    start_ms: I64
    session_n: I64
    scene: I64
    item: I64
    ts_s: I64

    def blobs(self) -> dict[str, bytes]:
        """Rows as `reference.fold` packs them, by user id."""
        header = zip(
            self.last_ms.tolist(), self.start_ms.tolist(), self.session_n.tolist(), self.scene.tolist(), strict=True
        )
        counts = [w.tobytes() for w in self.windows]
        history = struct.Struct("<" + ENTRY.format[1:] * HISTORY)
        pairs = np.stack([self.item, self.ts_s], 2).reshape(len(self.user), -1).tolist()
        rows = [HEADER.pack(*h) + c + history.pack(*p) for h, c, p in zip(header, counts, pairs, strict=True)]
        return dict(zip(map(str, self.user.tolist()), rows, strict=True))


def users_of(traffic: Traffic) -> Users:
    """The state of every user after all events have arrived in order."""
    order = np.argsort(traffic.user, kind="stable")
    user, kind, ts_ms = traffic.user[order], traffic.kind[order], traffic.ts_ms[order]
    ids, starts, group, size = np.unique(user, return_index=True, return_inverse=True, return_counts=True)
    last_ms = np.maximum.reduceat(ts_ms, starts)
    start_ms, session_n = _sessions(ts_ms, group, starts, size)
    newest = _newest_at(ts_ms, group, len(ids))
    item, ts_s = _arrivals(traffic.item[order], ts_ms // 1000, starts, size)
    return Users(
        user=ids,
        last_ms=last_ms,
        first_ms=np.minimum.reduceat(ts_ms, starts),
        events=size,
        windows=_windows(kind, ts_ms, group, last_ms),
        start_ms=start_ms,
        session_n=session_n,
        scene=traffic.scene[order][newest] + 1,
        item=item,
        ts_s=ts_s,
    )


def wrong_rows(expected: Users, rows: Mapping[str, bytes]) -> int:
    """How many users' packed rows differ, are missing, or should not be there."""
    wanted = expected.blobs()
    assert all(len(row) == ROW_BYTES for row in wanted.values())
    return sum(wanted.get(user) != rows.get(user) for user in wanted.keys() | rows.keys())


def _windows(kind: I64, ts_ms: I64, group: I64, last_ms: I64) -> NDArray[np.uint8]:
    users, width = len(last_ms), len(HOPS_MS)
    counts = np.zeros((users, len(KINDS), width, BUCKETS), np.int64)
    row = np.array([KINDS.index(word) if word in KINDS else -1 for word in WIRE])[kind]
    for window, hop_ms in enumerate(HOPS_MS):
        bucket = ts_ms // hop_ms
        counted = (bucket > last_ms[group] // hop_ms - BUCKETS) & (row >= 0)
        cell = ((group * len(KINDS) + row) * width + window) * BUCKETS + bucket % BUCKETS
        counts += np.bincount(cell[counted], minlength=counts.size).reshape(counts.shape)
    return np.minimum(counts, 255).astype(np.uint8)


def _sessions(ts_ms: I64, group: I64, starts: I64, size: I64) -> tuple[I64, I64]:
    span = int(ts_ms.max() - ts_ms.min()) + GAP_MS + 2
    lifted = ts_ms - ts_ms.min() + group * span  # a later user lies above every earlier one
    before = np.append(-GAP_MS - 1, np.maximum.accumulate(lifted)[:-1])
    cut = lifted - before > GAP_MS
    cut[starts] = True
    position = np.arange(len(ts_ms))
    opened = np.maximum.reduceat(np.where(cut, position, -1), starts)
    inside = position >= opened[group]
    start_ms = np.minimum.reduceat(np.where(inside, ts_ms, np.iinfo(np.int64).max), starts)
    return start_ms, starts + size - opened


def _newest_at(ts_ms: I64, group: I64, users: int) -> I64:
    """Position of each user's newest event; of several at the same time the last to arrive."""
    by_time = np.lexsort((np.arange(len(ts_ms)), ts_ms, group))
    ends = np.searchsorted(group[by_time], np.arange(users), side="right") - 1
    return by_time[ends]


def _arrivals(item: I64, ts_s: I64, starts: I64, size: I64) -> tuple[I64, I64]:
    back = np.arange(HISTORY)
    held = back < size[:, None]
    at = np.where(held, (starts + size - 1)[:, None] - back, 0)
    return np.where(held, item[at], 0), np.where(held, ts_s[at], 0)
