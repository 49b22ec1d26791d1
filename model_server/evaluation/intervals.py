"""Bootstrap intervals of a mean and of a ratio of means, paired by request; whole users and seeds are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def interval(
    gain: F64, seed: int, user: I64 | None = None, *, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of the mean of paired differences, one a request f64[N], or one a seed and request f64[S, N].

    With `user` i64[N], whole users are drawn with all their requests: those of one user are alike, and intervals that
    take them for independent are too narrow. So are those of a fit in which chance has a part, of which more than the
    seeds at hand could have been: of several seeds, seeds are drawn too. (0, 0) where there are no requests.
    """
    if gain.shape[-1] == 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    total, count = _clusters(gain, user)
    draws = np.empty(resamples)
    for number in range(resamples):
        drawn = rng.integers(0, len(count), len(count))
        draws[number] = _drawn(total, drawn, _seeds(rng, len(total))) / count[drawn].sum()
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def ratio(
    of: F64, over: F64, seed: int, user: I64, *, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float, float]:
    """(ratio of the means of two paired measures, its bootstrap interval); both f64[N] or, by seed, f64[S, N].

    Whole users are drawn, and seeds: what the two have of one seed stays together.
    """
    (above, count), (below, _) = _clusters(of, user), _clusters(over, user)
    most = max(len(above), len(below))
    rng = np.random.default_rng(seed)
    draws = np.empty(resamples)
    for number in range(resamples):
        drawn, seeds = rng.integers(0, len(count), len(count)), _seeds(rng, most)
        draws[number] = _drawn(above, drawn, seeds) / max(_drawn(below, drawn, seeds), 1e-12)
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    whole = np.arange(len(count)), np.arange(most)
    return _drawn(above, *whole) / max(_drawn(below, *whole), 1e-12), float(low), float(high)


def _seeds(rng: np.random.Generator, seeds: int) -> I64:
    """One fewer than there are, drawn with replacement.

    The variance of their mean is that of the mean of `seeds` (Rao and Wu 1988); of as many as there are it would be too
    small, by a third of it with three. Of a single one nothing is known.
    """
    return rng.integers(0, seeds, max(seeds - 1, 1)) if seeds > 1 else np.zeros(1, np.int64)


def _drawn(total: F64, user: I64, seed: I64) -> float:
    """Sum over the users drawn of the mean over the seeds drawn, of totals f64[S, U] or f64[1, U]."""
    rows = total[seed] if len(total) > 1 else total
    return float(rows[:, user].sum(1).mean())


def _clusters(gain: F64, user: I64 | None) -> tuple[F64, I64]:
    """(sum of the gains f64[S, U], number of requests i64[U]) of each user."""
    gain = np.atleast_2d(gain)
    if user is None:
        return gain, np.ones(gain.shape[1], np.int64)
    _, number = np.unique(user, return_inverse=True)
    total = np.stack([np.bincount(number, row) for row in gain]).astype(np.float64)
    return total, np.bincount(number).astype(np.int64)
