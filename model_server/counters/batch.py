"""One batch ready for a ranker: candidates with their counters, and the users' histories, windows and scenes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]


class PastTokens(NamedTuple):
    """Histories as small codes, [B, N], newest first: trained id, category bucket, kind, log2 age, local hour."""

    item: I32
    word: I32
    category: I32
    kind: U8
    age: U8
    hour: U8
    valid: Bools


class CountedBatch(NamedTuple):
    """B users with C candidates each: item i32[B, C] (-1 none), counters f32[B, C, F], near f32[B, C, L]."""

    item: I32
    word: I32
    category: I32
    counters: F32
    near: F32
    past: PastTokens
    windows: F32
    scene: U8

    @property
    def size(self) -> int:
        """Number of users."""
        return len(self.item)

    @property
    def used(self) -> NDArray[np.int64]:
        """History entries of each user."""
        used: NDArray[np.int64] = self.past.valid.sum(1)
        return used
