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
    for candidates that are not `new` bool[B, C].
    """
    if not len(vectors):
        return np.zeros((*item.shape, 3), np.float32)
    recent = recent[:, :RECENT]
    past = vectors[np.maximum(recent, 0)]
    cosine = vectors[np.maximum(item, 0)] @ past.transpose(0, 2, 1)
    there = ((recent >= 0) & past.any(2))[:, None, :] & (item[:, :, None] != recent[:, None, :])
    there &= new[:, :, None]
    cosine[~there] = 0
    count = np.maximum(there.sum(2), 1).astype(np.float32)
    greatest = np.where(there, cosine, np.float32(-2)).max(2, initial=-2)
    return np.stack(
        (
            np.where(there.any(2), greatest, np.float32(0)),
            cosine.sum(2, dtype=np.float32) / count,
            cosine[:, :, 0] if cosine.shape[2] else np.zeros(item.shape, np.float32),
        ),
        axis=2,
        dtype=np.float32,
    )
