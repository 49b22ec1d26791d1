"""Items whose titles are near those of the user's newest items: an exact search, one matrix product a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model_server.retrieval.pairs import F32, I32, I64

TITLES = "like titles"
"""The name of the list."""
ASKING = 3
"""So many of the user's newest distinct items ask, each with half the weight of the one before."""
USERS = 32
BLOCK = 256


class TitleVectors(NamedTuple):
    """vectors f32[M, d] of all items, 0 where nothing is known, on the grid of `model_server.text.projection`.

    since_ms i64[M]: from when on an item is known to anybody, None where all are.
    """

    vectors: F32
    since_ms: I64 | None


def like_titles(titles: TitleVectors, recent: I32, now_ms: I64, gone: I64, width: int) -> I32:
    """The `width` items nearest to the newest of `recent` i32[B, R] at now_ms i64[B], best first, -1 past the end.

    The items that ask are left out, so are those at `gone` i64[G] and whatever has nothing in common with them. Of
    equals the smaller item comes first.
    """
    found = np.full((len(recent), width), -1, np.int32)
    asking = recent[:, :ASKING]
    for start in range(0, len(recent), USERS):
        rows = slice(start, start + USERS)
        near = asked(titles.vectors, asking[rows]) @ titles.vectors.T
        near[:, gone] = 0
        if titles.since_ms is not None:
            near[titles.since_ms >= now_ms[rows, None]] = 0
        for own, score, best in zip(asking[rows], near, found[rows], strict=True):
            score[own[own >= 0]] = 0
            chosen = greatest_of(score, width)
            best[: len(chosen)] = chosen
    return found


def asked(vectors: F32, asking: I32) -> F32:
    """What users look for, f32[B, d]: the sum of the vectors of `asking` i32[B, A], weighing 1, 1/2, 1/4 …"""
    weight = np.where(asking >= 0, np.float32(0.5) ** np.arange(asking.shape[1], dtype=np.float32), np.float32(0))
    if not len(vectors):
        return np.zeros((len(asking), vectors.shape[1]), np.float32)
    summed: F32 = (vectors[np.maximum(asking, 0)] * weight[:, :, None]).sum(1, dtype=np.float32)
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
