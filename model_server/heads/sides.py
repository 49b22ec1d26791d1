"""Side heads: chances of what a push leads to, learned where the log tells, else a rate, else a stated prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model_server.heads.logistic import F64, fit, logit, sigmoid

How = Literal["learned", "rate", "prior"]

LEAST = 200
"""Cases below which whom a thing concerns is not learned."""
LEAST_RARE = 20
"""Cases of the rarer class below which it is not learned."""
RIDGE = 10.0
"""Precision of the prior on standardised columns: about ten cases against each weight."""


@dataclass(frozen=True)
class Prior:
    """What is assumed of a chance before a log tells: its mean, worth so many cases, and the mean in words."""

    mean: float
    cases: float
    words: str


OPENS = Prior(0.05, 100, "one push in twenty")
OPTS_OUT = Prior(0.001, 1000, "one push in a thousand")
COMES = Prior(0.5, 2, "one time in two")


@dataclass(frozen=True)
class Side:
    """p = s(weights . (columns - mean) * scale + shift); without columns the same chance for everybody.

    mean, scale, weights f64[D]; `how` it came about and `cases`, of which `positive`, it came from.
    """

    how: How
    shift: float
    cases: int = 0
    positive: int = 0
    mean: F64 | None = None
    scale: F64 | None = None
    weights: F64 | None = None

    @property
    def width(self) -> int | None:
        """Columns it looks at, None where it looks at none."""
        return None if self.weights is None else len(self.weights)

    def __call__(self, columns: F64) -> F64:
        """Chances [...] of columns [..., D]."""
        if self.weights is None or self.mean is None or self.scale is None:
            return np.full(columns.shape[:-1], sigmoid(np.array(self.shift)))
        standard = np.clip((columns - self.mean) * self.scale, -5.0, 5.0)
        return sigmoid(standard @ self.weights + self.shift)

    def of_candidates(self, people: F64, own: F64) -> F64:
        """Chances [U, K] of columns people f64[U, D - 1] of users and a last one f64[U, K] of each candidate's own."""
        if self.weights is None or self.mean is None or self.scale is None:
            return np.full(own.shape, sigmoid(np.array(self.shift)))
        common = np.clip((people - self.mean[:-1]) * self.scale[:-1], -5.0, 5.0) @ self.weights[:-1]
        last = np.clip((own - self.mean[-1]) * self.scale[-1], -5.0, 5.0) * self.weights[-1]
        return sigmoid(common[:, None] + last + self.shift)

    @classmethod
    def assumed(cls, prior: Prior) -> Side:
        """The prior alone."""
        return cls("prior", float(logit(prior.mean)))

    def document(self) -> dict[str, Any]:
        """Plain numbers, for a bundle."""
        arrays = {name: getattr(self, name) for name in ("mean", "scale", "weights")}
        plain = {"how": self.how, "shift": self.shift, "cases": self.cases, "positive": self.positive}
        return {**plain, **{name: None if array is None else array.tolist() for name, array in arrays.items()}}

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Side:
        """What a bundle stored. Raises TypeError, KeyError or ValueError on anything else."""
        arrays = {
            name: None if stored[name] is None else np.array(stored[name], np.float64)
            for name in ("mean", "scale", "weights")
        }
        return cls(stored["how"], float(stored["shift"]), int(stored["cases"]), int(stored["positive"]), **arrays)


def rated(label: F64, prior: Prior) -> Side:
    """The rate of cases f64[N], 0 or 1, mixed with the prior, for everybody; no case gives the prior alone."""
    cases, positive = len(label), int(label.sum())
    if cases == 0:
        return Side.assumed(prior)
    return Side("rate", float(logit((positive + prior.mean * prior.cases) / (cases + prior.cases))), cases, positive)


def learn(columns: F64, label: F64, prior: Prior) -> Side:
    """A side head from cases f64[N, D] and what became of them f64[N], 0 or 1.

    Too few cases, or too few of the rarer class, give their rate mixed with the prior; no case gives the prior.
    """
    alone = rated(label, prior)
    cases, positive = alone.cases, alone.positive
    if cases < LEAST or min(positive, cases - positive) < LEAST_RARE:
        return alone
    deviation = columns.std(0)
    mean, scale = columns.mean(0), np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
    standard = np.clip((columns - mean) * scale, -5.0, 5.0)
    design = np.concatenate((standard, np.ones((cases, 1))), axis=1)
    width = design.shape[1]
    centre, precision = np.zeros(width), np.full(width, RIDGE)
    centre[-1], precision[-1] = alone.shift, 1e-3
    found = fit(design, label, centre, np.diag(precision))
    return Side("learned", float(found[-1]), cases, positive, mean, scale, found[:-1])
