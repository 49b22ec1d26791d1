"""Ranking metrics over the full catalogue, from the ranks of what the user really took."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
Bools = NDArray[np.bool_]

CUTOFF = 10
NAMES = ("ndcg@10", "hr@10", "mrr")
DISCOUNT = 1.0 / np.log2(np.arange(2, CUTOFF + 2))
_IDEAL = np.concatenate(([0.0], np.cumsum(DISCOUNT)))


def order(score: NDArray[np.number[Any]], popularity: F32, item: I32) -> NDArray[np.intp]:
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
    ndcg = top @ DISCOUNT[:width] / np.maximum(ideal, DISCOUNT[0])
    found = hit.any(1)
    first = np.where(found, hit.argmax(1) + 1.0, np.inf)
    return {"ndcg@10": ndcg, "hr@10": top.any(1).astype(np.float64), "mrr": 1.0 / first}


class Ndcg:
    """NDCG@10 of the same N requests under many scores: only the places of what was taken are looked for.

    popularity f32[N, C], item i32[N, C], label bool[N, C], wanted i64[N] as in `ranked`, with which it agrees where
    scores are finite.
    """

    def __init__(self, popularity: F32, item: I32, label: Bools, wanted: NDArray[np.int64]) -> None:
        best = np.lexsort((item, -popularity, item < 0), axis=-1)
        turn = np.empty_like(best)
        np.put_along_axis(turn, best, np.broadcast_to(np.arange(item.shape[1]), item.shape), 1)
        self._row, self._column = np.nonzero(label)
        self._before = turn[self._row] < turn[self._row, self._column][:, None]
        self._real = (item >= 0)[self._row]
        self._ideal = np.maximum(_IDEAL[np.minimum(wanted, CUTOFF)], DISCOUNT[0])

    def __call__(self, score: NDArray[np.number[Any]]) -> float:
        """The mean under scores [N, C]; 0 where there are no requests."""
        others, own = score[self._row], score[self._row, self._column][:, None]
        place = (((others > own) | ((others == own) & self._before)) & self._real).sum(1)
        gain = np.append(DISCOUNT, 0.0)[np.minimum(place, CUTOFF)]
        requests = len(self._ideal)
        return float((np.bincount(self._row, gain, requests) / self._ideal).mean()) if requests else 0.0


def ranked(
    score: NDArray[np.number[Any]], popularity: F32, item: I32, label: Bools, wanted: NDArray[np.int64]
) -> dict[str, F64]:
    """Metrics of each request from scores of its candidates, all [B, C] but wanted[B]."""
    hit = np.take_along_axis(label, order(score, popularity, item), axis=1)
    return of_lists(hit, wanted)


def means(metrics: Mapping[str, F64]) -> dict[str, float]:
    """Mean of each metric over the requests; 0 where there are none."""
    return {name: float(values.mean()) if len(values) else 0.0 for name, values in metrics.items()}
