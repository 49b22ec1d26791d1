"""The gate before a promotion: on requests that neither ranker learned from, the new one may not be worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.intervals import interval
from model_server.training.stages import METRIC

if TYPE_CHECKING:
    from model_server.selection import Calibration
    from model_server.training.stages import Judge

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NDCG_SLACK, ECE_SLACK = 0.003, 0.002
"""How much worse is not: seeds alone move NDCG@10 by .003."""
BINS = 15


@dataclass(frozen=True)
class Side:
    """One ranker at the gate: NDCG@10 f64[N] of each request, and the error of its probabilities."""

    ndcg: F64
    ece: float


@dataclass(frozen=True)
class Gate:
    """Both rankers on the same requests; `low` and `high` bound the gain in NDCG@10, drawn by user."""

    requests: int
    since_ms: int
    ndcg: float
    ndcg_in_force: float
    low: float
    high: float
    ece: float
    ece_in_force: float

    @property
    def why_not(self) -> str:
        """What keeps the new ranker from being promoted, empty where nothing does."""
        if self.ndcg < self.ndcg_in_force - NDCG_SLACK:
            return f"it ranks worse than the bundle in force ({self.ndcg:.4f} against {self.ndcg_in_force:.4f} NDCG@10)"
        if self.ece > self.ece_in_force + ECE_SLACK:
            return (
                f"its probabilities are further off than those of the bundle in force (ECE {self.ece:.4f} against "
                f"{self.ece_in_force:.4f})"
            )
        return ""


def side(judge: Judge, scores: F32, calibration: Calibration) -> Side:
    """How a ranker does at the gate's requests, from its scores f32[N, C]."""
    examples = judge.examples
    real = examples.batch.item >= 0
    error = calibration_error(calibration.chance(scores[real]), examples.label[real])
    return Side(judge.metrics_of(scores)[METRIC], error)


def passed(new: Side, in_force: Side, user: I64, since_ms: int, seed: int) -> Gate:
    """Both sides compared; `user` i64[N] of each request."""
    low, high = interval(new.ndcg - in_force.ndcg, seed, user)
    return Gate(
        requests=len(user),
        since_ms=since_ms,
        ndcg=float(new.ndcg.mean()),
        ndcg_in_force=float(in_force.ndcg.mean()),
        low=low,
        high=high,
        ece=new.ece,
        ece_in_force=in_force.ece,
    )


def calibration_error(chance: F32, happened: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error: the mean distance of chance and frequency over bins of equally many; 0 for none."""
    if len(chance) == 0:
        return 0.0
    order = np.argsort(chance, kind="stable")
    parts = zip(
        np.array_split(chance[order].astype(np.float64), bins), np.array_split(happened[order], bins), strict=True
    )
    return float(sum(abs(p.sum() - float(h.sum())) for p, h in parts) / len(chance))
