"""How true chances are: the objective L, log loss, AUC, calibration error overall and by field, reliability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_server.heads.grades import LOOKED, TAKEN, Chances
from model_server.heads.logistic import BOUND

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BINS = 15


def weighted_brier(expected: F64, grade: F64, omega: F64) -> float:
    """L: the mean of (P_pred - P_obs)^2 weighted by omega; all f64[N]."""
    return float((omega * (expected - grade) ** 2).sum() / max(float(omega.sum()), 1e-300))


def logloss(chance: F64, label: F64) -> float:
    """Mean negative log likelihood of labels f64[N] in 0..1; chances f64[N] are held as logits are."""
    least = 1 / (1 + np.exp(BOUND))
    held = np.clip(chance, least, 1 - least)
    return float(-(label * np.log(held) + (1 - label) * np.log1p(-held)).mean())


def auc(chance: F64, label: NDArray[np.bool_]) -> float | None:
    """How often a positive has the higher chance, ties a half; None where there is one class."""
    positive = int(label.sum())
    if positive in {0, len(label)}:
        return None
    _, number, size = np.unique(chance, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2
    above = rank[number][label].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(label) - positive)))


def bins(chance: F64, label: F64, count: int = BINS) -> list[dict[str, float]]:
    """Reliability: candidates in order of their chance in `count` parts of equal size, each with chance and share."""
    order = np.argsort(chance, kind="stable")
    parts = [part for part in np.array_split(order, count) if len(part)]
    return [
        {"candidates": len(part), "chance": float(chance[part].mean()), "share": float(label[part].mean())}
        for part in parts
    ]


def ece(chance: F64, label: F64) -> float:
    """Expected calibration error: the mean distance between chance and share over bins of equal size."""
    told = bins(chance, label)
    return sum(b["candidates"] * abs(b["chance"] - b["share"]) for b in told) / max(len(chance), 1)


def field_ece(chance: F64, label: F64, code: I64) -> float:
    """The same over the values i64[N] of a field (Pan et al. 2020): what is off for one value others do not hide."""
    return float(np.abs(np.bincount(code, chance - label)).sum() / max(len(chance), 1))


def judged(chances: Chances, grade: F64, omega: F64, fields: Mapping[str, I64]) -> dict[str, Any]:
    """Every figure of the cascade's chances [N] against grades f64[N]; `fields`: name -> codes i64[N]."""
    rec, best = (np.asarray(part, np.float64) for part in chances)
    acted, strongly = grade >= LOOKED, grade >= TAKEN
    return {
        "candidates": len(grade),
        "acted": float(acted.mean()),
        "strongly": float(strongly.mean()),
        "L": weighted_brier(np.asarray(chances.expected, np.float64), grade, omega),
        "logloss": logloss(rec, acted.astype(np.float64)),
        "logloss best": logloss(best, strongly.astype(np.float64)),
        "auc": auc(rec, acted),
        "auc best": auc(best, strongly),
        "ece": ece(rec, acted.astype(np.float64)),
        "ece best": ece(best, strongly.astype(np.float64)),
        "field ece": {name: field_ece(rec, acted.astype(np.float64), code) for name, code in fields.items()},
        "reliability": bins(rec, acted.astype(np.float64)),
    }
