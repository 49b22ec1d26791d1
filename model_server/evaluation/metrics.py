"""Ranking metrics over the full catalogue, from the ranks of what the user really took."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

CUTOFF = 10
NAMES = ("ndcg@10", "hr@10", "mrr")
_DISCOUNT = 1.0 / np.log2(np.arange(2, CUTOFF + 2))
_IDEAL = np.concatenate(([0.0], np.cumsum(_DISCOUNT)))


def order(score: F32, popularity: F32, item: I32) -> NDArray[np.intp]:
    """Positions best first, [B, C]: by score, then popularity, then the smaller item; pads (item -1) come last.

    A score that is not finite sinks below every finite one.
    """
    shown = np.where(item >= 0, score, -np.inf)
    shown = np.where(np.isfinite(shown), shown, -np.inf)
    return np.lexsort((item, -popularity, -shown, item < 0), axis=-1)


def of_lists(hit: Bools, wanted: NDArray[np.int64]) -> dict[str, F64]:
    """Metrics of each request from its ranked list: hit[B, C] in rank order, wanted[B] positives in the catalogue.

    A positive that is not in the list has rank infinity and counts against NDCG.
    """
    width = min(CUTOFF, hit.shape[1])
    top = hit[:, :width]
    ideal = _IDEAL[np.minimum(wanted, CUTOFF)]
    ndcg = top @ _DISCOUNT[:width] / np.maximum(ideal, _DISCOUNT[0])
    found = hit.any(1)
    first = np.where(found, hit.argmax(1) + 1.0, np.inf)
    return {"ndcg@10": ndcg, "hr@10": top.any(1).astype(np.float64), "mrr": 1.0 / first}


def ranked(score: F32, popularity: F32, item: I32, label: Bools, wanted: NDArray[np.int64]) -> dict[str, F64]:
    """Metrics of each request from scores of its candidates, all [B, C] but wanted[B]."""
    hit = np.take_along_axis(label, order(score, popularity, item), axis=1)
    return of_lists(hit, wanted)


def of_ranks(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Metrics of one request from the ranks (1 = best) of all its positives."""
    top = ranks[ranks <= CUTOFF]
    ndcg = _DISCOUNT[top - 1].sum() / _IDEAL[min(len(ranks), CUTOFF)]
    return {"ndcg@10": float(ndcg), "hr@10": float(len(top) > 0), "mrr": 1.0 / float(ranks.min())}


def means(metrics: Mapping[str, F64]) -> dict[str, float]:
    """Mean of each metric over the requests; 0 where there are none."""
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in metrics.items()}


def interval(gain: F64, seed: int, resamples: int = 1000, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean of paired differences, one a request."""
    if len(gain) == 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    draws = np.array([gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(resamples)])
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
