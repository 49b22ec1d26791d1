"""What the first ten places of all lists show together: how much of the catalogue, how evenly, how varied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]


def coverage(top: I32, items: int) -> float:
    """Share of `items` that any list shows; top i32[N, K], -1 for nothing."""
    return len(np.unique(top[top >= 0])) / max(items, 1)


def gini(top: I32, items: int) -> float:
    """Gini coefficient of how often each of `items` is shown: 0 when all are alike, near 1 when few have all."""
    shown = np.sort(np.bincount(top[top >= 0], minlength=items)).astype(np.float64)
    total = shown.sum()
    if total == 0:
        return 0.0
    place = np.arange(1, len(shown) + 1)
    return float((2 * place - len(shown) - 1) @ shown / (len(shown) * total))


def diversity(top: I32, category: I32) -> F64:
    """Share of the pairs in each list that are of different categories, f64[N].

    category i32[M], -1 unknown; items of unknown category are left out, NaN for a list with fewer than two others.
    """
    of_item = np.where(top >= 0, np.append(category, np.int32(-1))[top], -1)
    both = (of_item[:, :, None] >= 0) & (of_item[:, None, :] >= 0)
    both &= ~np.eye(top.shape[1], dtype=np.bool_)
    pairs = both.sum((1, 2))
    unlike = (both & (of_item[:, :, None] != of_item[:, None, :])).sum((1, 2))
    return np.where(pairs > 0, unlike / np.maximum(pairs, 1), np.nan)
