"""The moments that are learned from and judged by: when a user took something and what, and the split in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

I64 = NDArray[np.int64]

REFRESH_MS = 1_800_000


class Moments(NamedTuple):
    """R requests in time order: ts_ms i64[R], user i64[R], event i64[R] (any of the moment).

    Items taken at request r: item[start[r] : start[r + 1]].
    """

    ts_ms: I64
    user: I64
    event: I64
    start: I64
    item: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ts_ms)

    def taken(self, requests: I64) -> tuple[I64, NDArray[np.int32]]:
        """(row, item) of everything taken at `requests`, rows numbering them."""
        wanted = self.start[requests + 1] - self.start[requests]
        row = np.repeat(np.arange(len(requests)), wanted)
        within = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted, wanted)
        return row, self.item[np.repeat(self.start[requests], wanted) + within]


@dataclass(frozen=True)
class Split:
    """Shares of the requests, in time order: train, then `valid`, then `test`; 0 for no test."""

    valid: float = 0.1
    test: float = 0.2


def target_kinds(recorded: Recorded, declaration: Declaration, named: tuple[str, ...] = ()) -> NDArray[np.bool_]:
    """Which kinds count as taking an item, bool over kind codes: those named, else the commonest one done by users."""
    names = [kind.name for kind in declaration.kinds]
    if named:
        unknown = sorted(set(named) - set(names))
        if unknown:
            text = f"{unknown[0]!r} is no kind of event; the declaration knows {', '.join(names)}"
            raise ValueError(text)
        return np.array([name in named for name in names])
    counts = np.bincount(recorded.columns.kind, minlength=len(names))
    able = np.array([kind.item and kind.active for kind in declaration.kinds])
    best = int(np.argmax(np.where(able, counts, -1)))
    only: NDArray[np.bool_] = np.arange(len(names)) == best
    return only


def moments(recorded: Recorded, declaration: Declaration, target: NDArray[np.bool_]) -> Moments:
    """One request a (user, stamp) at which something was taken; what the user saw within half an hour is no news.

    A request of which nothing is left is none.
    """
    active = np.array([kind.active and kind.item for kind in declaration.kinds])[recorded.columns.kind]
    chosen = np.flatnonzero(target[recorded.columns.kind] & ~_again(recorded, active))
    ts_ms, user, item = recorded.columns.ts_ms[chosen], recorded.user[chosen], recorded.item[chosen]
    order = np.lexsort((item, user, ts_ms))
    ts_ms, user, item, chosen = ts_ms[order], user[order], item[order], chosen[order]
    new_request = np.ones(len(order), np.bool_)
    new_request[1:] = (ts_ms[1:] != ts_ms[:-1]) | (user[1:] != user[:-1])
    distinct = new_request.copy()
    distinct[1:] |= item[1:] != item[:-1]
    first = np.flatnonzero(new_request)
    kept = np.flatnonzero(distinct)
    start = np.append(np.searchsorted(kept, first), len(kept))
    return Moments(ts_ms[first], user[first], chosen[first], start, item[kept])


def _again(recorded: Recorded, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Events whose user did something with the item at most half an hour (and at least a millisecond) before."""
    again = np.zeros(len(recorded), np.bool_)
    index = np.flatnonzero(active)
    ts_ms = recorded.columns.ts_ms[index]
    key = recorded.user[index] * max(len(recorded.item_ids), 1) + recorded.item[index]
    order = np.lexsort((ts_ms, key))
    key, ts_ms, index = key[order], ts_ms[order], index[order]
    # The newest stamp of the pair that is strictly older than the event's own.
    new_stamp = np.ones(len(order), np.bool_)
    new_stamp[1:] = (key[1:] != key[:-1]) | (ts_ms[1:] != ts_ms[:-1])
    first_of_stamp = np.maximum.accumulate(np.where(new_stamp, np.arange(len(order)), 0))
    before = first_of_stamp - 1
    known = (before >= 0) & (key[np.maximum(before, 0)] == key)
    again[index] = known & (ts_ms - ts_ms[np.maximum(before, 0)] < REFRESH_MS)
    return again


def split(count: int, shares: Split) -> tuple[int, int]:
    """(first valid, first test) request of `count` in time order."""
    test = count - int(count * shares.test)
    return test - int(count * shares.valid), test
