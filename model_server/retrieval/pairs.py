"""Numbers known about few of all (user, item) pairs, and the lists made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pairs:
    """G known pairs, sorted by user, then column (item or category): user, column i64[G]; each of `values` f32[G]."""

    user: I64
    column: I64
    values: Mapping[str, F32]

    @classmethod
    def none(cls, *names: str) -> Pairs:
        """No pairs, of which nothing is known under these names."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, {name: np.empty(0, np.float32) for name in names})

    def top(self, users: int, score: F32, count: int) -> I32:
        """The `count` columns of the highest score for each user, best first: i32[users, count], -1 past the end."""
        best = np.full((users, count), -1, np.int32)
        order = sorting((self.user << 32) | _falling(score))  # the users stay where they are
        place = np.arange(len(order)) - np.searchsorted(self.user, np.arange(users))[self.user]
        kept = np.flatnonzero(place < count)
        best[self.user[kept], place[kept]] = self.column[order[kept]]
        return best


def greatest(user: I64, starts: NDArray[np.integer], score: F32, count: int) -> I64:
    """Positions, in order, of each user's `count` greatest scores, and of those that equal the last of them.

    `user` i64[G] is sorted, user b's scores lie at starts[b] up to starts[b + 1]. To select is linear, and what is
    left to sort is little.
    """
    widest = int(np.diff(starts).max(initial=0))
    if widest <= count:
        return np.arange(len(user))
    dense = np.full((len(starts) - 1, widest), -np.inf, np.float32)
    dense[user, np.arange(len(user)) - starts[user]] = score
    least = np.partition(dense, widest - count, axis=1)[:, widest - count]
    return np.flatnonzero(score >= least[user])


def _falling(score: F32) -> I64:
    """Numbers below 2^32 that fall as scores f32[G] rise: the bits of a float, read as a number, rise with it."""
    bits = (score + np.float32(0)).view(np.int32)  # -0.0 is 0.0 now
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return np.int64(2**31 - 1) - rising


def sorting(key: I64) -> I64:
    """A stable order of keys i64[G] >= 0; with key and place in one word, which sorts twice as fast as looking up."""
    bits = max(len(key) - 1, 0).bit_length()
    if int(key.max(initial=0)) >> (63 - bits):
        return np.argsort(key, kind="stable")
    packed = np.sort((key << bits) | np.arange(len(key)))
    order: I64 = packed & ((1 << bits) - 1)
    return order


def grouped(user: I64, column: NDArray[np.integer], width: int) -> tuple[I64, I64]:
    """(order, starts): a stable sort of pairs by user and column, below `width`, and where each distinct one starts."""
    key = user * width + column
    order = sorting(key)
    ordered = key[order]
    first = np.empty(len(ordered), np.bool_)
    first[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return order, np.flatnonzero(first)


def summed(
    user: I64, column: I32, width: int, values: Mapping[str, F32], maxima: Mapping[str, F32] | None = None
) -> Pairs:
    """Pairs of possibly repeated (user, column): of `values` the sum over the repeats, of `maxima` the greatest."""
    order, starts = grouped(user, column, width)
    pairs = {name: reduced(np.add, value[order], starts) for name, value in values.items()}
    pairs |= {name: reduced(np.maximum, value[order], starts) for name, value in (maxima or {}).items()}
    first = order[starts]
    return Pairs(user[first], column[first].astype(np.int64), pairs)


def reduced(by: np.ufunc, values: F32, starts: I64) -> F32:
    """The values of each group reduced `by`; groups begin at `starts`, none where there are no values."""
    found: F32 = by.reduceat(values, starts) if len(starts) else np.empty(0, np.float32)
    return found
