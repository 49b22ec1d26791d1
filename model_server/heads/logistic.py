"""Logistic regression under a normal prior, by Newton steps; small, deterministic, for few columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

BOUND = 30.0
"""Logits are held between -30 and 30: their chances are numbers whose logarithm is finite."""
STEPS, SMALLEST = 50, 1e-9


def sigmoid(z: NDArray[np.floating]) -> F64:
    """Chances f64 of logits of any shape."""
    chance: F64 = 1.0 / (1.0 + np.exp(-np.clip(z.astype(np.float64), -BOUND, BOUND)))
    return chance


def logit(chance: NDArray[np.floating] | float) -> F64:
    """Logits f64 of chances of any shape, held within the bound."""
    held = np.clip(np.asarray(chance, np.float64), 1e-13, 1 - 1e-13)
    found: F64 = np.clip(np.log(held) - np.log1p(-held), -BOUND, BOUND)
    return found


def information(design: F64, weights: F64) -> F64:
    """Fisher information f64[D, D] of rows f64[N, D] at the weights f64[D]."""
    chance = sigmoid(design @ weights)
    found: F64 = (design * (chance * (1 - chance))[:, None]).T @ design
    return found


def fit(design: F64, label: F64, centre: F64, precision: F64) -> F64:
    """The weights f64[D] likeliest for rows f64[N, D] with labels f64[N] in 0..1, under N(centre, precision^-1).

    With a prior of its own a single class has a finite answer; no rows leave the centre. Steps are halved until they
    make the labels likelier.
    """
    weights, value = centre.copy(), _loss(design, label, centre, centre, precision)
    for _ in range(STEPS):
        gradient = design.T @ (sigmoid(design @ weights) - label) + precision @ (weights - centre)
        step = np.linalg.solve(information(design, weights) + precision, gradient)
        for _ in range(STEPS):
            tried = weights - step
            found = _loss(design, label, tried, centre, precision)
            if found <= value:
                break
            step = step / 2
        else:
            return weights
        gain, weights, value = value - found, tried, found
        if gain < SMALLEST * max(abs(value), 1.0):
            break
    return weights


def _loss(design: F64, label: F64, weights: F64, centre: F64, precision: F64) -> float:
    z = design @ weights
    away = weights - centre
    return float((np.logaddexp(0, z) - label * z).sum() + away @ precision @ away / 2)
