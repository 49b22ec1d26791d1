"""Omega(u, t, s): how much an observation counts in the article's objective L."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
DAY_MS = 86_400_000


@dataclass(frozen=True)
class ImportanceSettings:
    """Parts of omega. `graded`: what a grade of 1 adds to the weight of nothing; `half_life_ms` of recency.

    `rarest`: the inverse propensity is held at so many times that of an even spread; `most`: omega is held at so many
    times its mean.
    """

    graded: float = 1.0
    half_life_ms: int = 30 * DAY_MS
    rarest: float = 5.0
    most: float = 10.0


def propensity(cell: I64, count: int) -> F64:
    """The share f64[count] of requests in cells i64[N] that each cell has; a cell nobody was in has the least one."""
    seen = np.bincount(cell, minlength=count).astype(np.float64)
    least = seen[seen > 0].min() if seen.any() else 1.0
    shares: F64 = np.where(seen > 0, seen, least) / max(seen.sum(), 1.0)
    return shares


def importance(grade: F64, age_ms: I64, share: F64, events: I64, settings: ImportanceSettings | None = None) -> F64:
    """Omega f64[N, C] of grades f64[N, C] in 0..1, mean about 1.

    A request's part is its recency, the clipped inverse of the `share` f64[N] of requests in its slot and scene, and
    1 / sqrt of its user's `events` i64[N], so that the busy do not drown the others. age_ms i64[N]: before the newest.
    """
    by = settings or ImportanceSettings()
    recency = 0.5 ** (np.maximum(age_ms, 0) / by.half_life_ms)
    cells = max(len(np.unique(share)), 1)
    inverse = np.minimum(1 / np.maximum(share, 1e-12) / cells, by.rarest)
    request = recency * inverse / np.sqrt(np.maximum(events, 1))
    whole = (1 + by.graded * grade) * request[:, None]
    mean = float(whole.mean()) if whole.size else 1.0
    return np.minimum(whole / max(mean, 1e-300), by.most)
