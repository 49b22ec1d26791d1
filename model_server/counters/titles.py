"""Counters of a candidate's title against those of the user's newest items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_server.retrieval.neighbours import RECENT

if TYPE_CHECKING:
    from model_server.retrieval.pairs import F32, I32
    from model_server.retrieval.titles import Bools


def title_counters(vectors: F32, recent: I32, item: I32, new: Bools) -> F32:
    """f32[B, C, 3], cosines of candidates i32[B, C] with the newest distinct items i32[B, R]: greatest, mean, newest.

    An item is not compared with itself, nor with one whose title is not known; 0 where nothing is left to compare, and
    for candidates that are not `new` bool[B, C], which most are not: those are not looked at.
    """
    counters = np.zeros((*item.shape, 3), np.float32)
    recent = recent[:, :RECENT]
    user, place = np.nonzero(new & (item >= 0))
    if not len(user) or not len(vectors) or not recent.shape[1]:
        return counters
    past, own = vectors[np.maximum(recent, 0)], item[user, place]
    # On the grid of `text.projection` products are exact, in whatever order they are summed.
    cosine = (past[user] @ vectors[own][:, :, None])[:, :, 0]
    there = ((recent >= 0) & past.any(2))[user] & (own[:, None] != recent[user])
    cosine[~there] = 0
    count = np.maximum(there.sum(1), 1).astype(np.float32)
    greatest = np.where(there, cosine, np.float32(-2)).max(1)
    newest = cosine[:, 0]
    mean = cosine.sum(1, dtype=np.float32) / count
    counters[user, place] = np.stack((np.where(there.any(1), greatest, np.float32(0)), mean, newest), axis=1)
    return counters
