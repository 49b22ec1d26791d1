"""Numbers known about few of all (user, item) pairs, and the lists and look-ups made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """G known pairs, sorted: key i64[G] = user * width + column; each of `values` f32[G]."""

    key: I64
    width: int
    values: Mapping[str, F32]

    @property
    def user(self) -> I64:
        """The user of each pair."""
        return self.key // self.width

    @property
    def column(self) -> I64:
        """The item (or category) of each pair."""
        return self.key % self.width

    def find(self, column: I32) -> I64:
        """Position of each pair (user b, column[b, c]); G where it is not known. -1 is never known."""
        if len(self.key) == 0:
            return np.zeros(column.shape, np.int64)
        wanted = np.arange(len(column), dtype=np.int64)[:, None] * self.width + column
        at = np.searchsorted(self.key, wanted)
        known = (self.key[np.minimum(at, len(self.key) - 1)] == wanted) & (column >= 0)
        return np.where(known, at, len(self.key))

    def at(self, position: I64, name: str) -> F32:
        """The value called `name` at positions from `find`, 0 where the pair is not known."""
        padded: F32 = np.append(self.values[name], np.float32(0))
        return padded[position]

    def top(self, users: int, score: F32, count: int) -> I32:
        """The `count` columns of the highest score for each user, best first: i32[users, count], -1 past the end."""
        best = np.full((users, count), -1, np.int32)
        if len(self.key):
            user = self.user
            order = np.lexsort((-score, user))
            user = user[order]
            place = np.arange(len(order)) - np.searchsorted(user, user)
            kept = place < count
            best[user[kept], place[kept]] = self.column[order][kept]
        return best


def grouped(key: I64) -> tuple[I64, I64, I64]:
    """(order, starts, distinct): a stable sort of the keys, where each distinct key starts in it, and the keys."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    first = np.empty(len(ordered), np.bool_)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    return order, starts, ordered[starts]


def summed(key: I64, width: int, values: Mapping[str, F32]) -> Pairs:
    """Pairs of possibly repeated keys, each value summed over the repeats."""
    order, starts, distinct = grouped(key)
    if len(key) == 0:
        return Pairs(distinct, width, {name: np.empty(0, np.float32) for name in values})
    return Pairs(distinct, width, {name: np.add.reduceat(v[order], starts) for name, v in values.items()})
