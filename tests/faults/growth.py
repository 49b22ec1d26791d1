"""Whether samples of a size grow: the line through them against the noise around it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPREAD = (5, 95)


@dataclass(frozen=True)
class Trend:
    """level: the median; growth: what the line through the samples rises by from the first to the last; noise: the
    spread of the samples around that line. All in the samples' unit."""

    level: float
    growth: float
    noise: float

    def flat(self, least: float) -> bool:
        """Whether the rise is within the noise, or below `least`, which is too little to be told from none."""
        return self.growth <= self.flat_below(least)

    def flat_below(self, least: float) -> float:
        """The greatest growth that is none."""
        return max(self.noise, least)


def trend(times_s: Sequence[float], sizes: Sequence[float]) -> Trend:
    """The trend of at least two samples at different times; one outlier, such as a collector's peak, does not turn it.

    The line is the median of the slopes between all pairs (Theil and Sen).
    """
    at_s, values = np.asarray(times_s, np.float64), np.asarray(sizes, np.float64)
    first, second = np.triu_indices(len(values), 1)
    slope = float(np.median((values[second] - values[first]) / (at_s[second] - at_s[first])))
    low, high = np.percentile(values - slope * at_s, SPREAD)
    return Trend(float(np.median(values)), slope * float(at_s[-1] - at_s[0]), float(high - low))
