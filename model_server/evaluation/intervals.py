"""Bootstrap intervals of a mean and of a ratio of means, paired by request and drawn by user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def interval(
    gain: F64, seed: int, user: I64 | None = None, *, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of the mean of paired differences, one a request.

    With `user` i64[N], whole users are drawn with all their requests: those of one user are alike, and intervals that
    take them for independent are too narrow. (0, 0) where there are none.
    """
    if len(gain) == 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    total, count = _clusters(gain, user)
    draws = np.empty(resamples)
    for number in range(resamples):
        drawn = rng.integers(0, len(total), len(total))
        draws[number] = total[drawn].sum() / count[drawn].sum()
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def ratio(
    of: F64, over: F64, seed: int, user: I64, *, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float, float]:
    """(ratio of the means of two paired measures, its bootstrap interval), whole users drawn."""
    above, below = _clusters(of, user)[0], _clusters(over, user)[0]
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for number in range(resamples):
        drawn = rng.integers(0, len(above), len(above))
        draws[number] = above[drawn].sum() / max(below[drawn].sum(), 1e-12)
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    return float(above.sum() / max(below.sum(), 1e-12)), float(low), float(high)


def _clusters(gain: F64, user: I64 | None) -> tuple[F64, I64]:
    """(sum of the gains, number of requests) of each user."""
    if user is None:
        return gain, np.ones(len(gain), np.int64)
    _, number = np.unique(user, return_inverse=True)
    return np.bincount(number, gain).astype(np.float64), np.bincount(number).astype(np.int64)
