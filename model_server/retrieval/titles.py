"""New items whose titles are near those of the user's newest items: an exact search, one matrix product a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.pairs import F32, I32, I64

Bools = NDArray[np.bool_]

TITLES = "like titles"
"""The name of the list."""
ASKING = 10
"""So many of the user's newest distinct items ask, all alike; three of them found a quarter less."""
FEW = 5
YOUNG_MS = 30 * 86_400_000
USERS = 32
BLOCK = 256


class TitleVectors(NamedTuple):
    """vectors f32[M, d] of all items, 0 where nothing is known, on the grid of `model_server.text.projection`.

    since_ms i64[M]: from when on an item is known to anybody, None where all are.
    """

    vectors: F32
    since_ms: I64 | None


def is_new(totals: I64, age_ms: I64) -> Bools:
    """Which items titles speak for, by their events and the time since the first one: nobody touched them yet, or few
    did and only lately. Of the others behaviour says more (docs/decisions/0019)."""
    found: Bools = (totals == 0) | ((totals < FEW) & (age_ms < YOUNG_MS))
    return found


def like_titles(titles: TitleVectors, recent: I32, now_ms: I64, able: Sequence[I32], width: int) -> I32:
    """The `width` items nearest to the newest of `recent` i32[B, R] at now_ms i64[B], best first, -1 past the end.

    `able`: for each user the items that may be found, sorted, length B; users with the same array are served together.
    Items that ask are left out, so is what has nothing in common with them. Of equals the smaller item comes first.
    """
    found = np.full((len(recent), width), -1, np.int32)
    asking = recent[:, :ASKING]
    for rows in _together(able):
        items = able[rows.start]
        near = asked(titles.vectors, asking[rows]) @ titles.vectors[items].T
        if titles.since_ms is not None:
            near[titles.since_ms[items] >= now_ms[rows, None]] = 0
        for own, score, best in zip(asking[rows], near, found[rows], strict=True):
            score[_places(items, own)] = 0
            chosen = greatest_of(score, width)
            best[: len(chosen)] = items[chosen]
    return found


def _places(items: I32, own: I32) -> NDArray[np.intp]:
    """Where those of `own` stand that are among the sorted items."""
    at = np.searchsorted(items, own)
    there = at < len(items)
    found: NDArray[np.intp] = at[there][items[at[there]] == own[there]]
    return found


def _together(able: Sequence[I32]) -> Iterator[slice]:
    """Runs of at most `USERS` users who may find the same."""
    start = 0
    for end in range(1, len(able) + 1):
        if end == len(able) or able[end] is not able[start] or end - start == USERS:
            yield slice(start, end)
            start = end


def asked(vectors: F32, asking: I32) -> F32:
    """What users look for, f32[B, d]: the sum of the vectors of `asking` i32[B, A]."""
    if not len(vectors):
        return np.zeros((len(asking), vectors.shape[1]), np.float32)
    summed: F32 = (vectors[np.maximum(asking, 0)] * (asking >= 0)[:, :, None]).sum(1, dtype=np.float32)
    return summed


def greatest_of(score: F32, count: int) -> I64:
    """Places of the `count` greatest scores above zero of f32[M], best first.

    Of a long row the greatest of each block are looked at first: the count-th of those is a bound that no more than a
    few scores reach, so that nothing long is sorted.
    """
    least = np.float32(0)
    blocks = len(score) // BLOCK
    if blocks > count:
        heads = score[: blocks * BLOCK].reshape(blocks, BLOCK).max(1)
        least = np.partition(heads, blocks - count)[blocks - count]
    able = np.flatnonzero(score >= least if least > 0 else score > 0)
    order = np.lexsort((able, -score[able]))[:count]
    chosen: I64 = able[order]
    return chosen
