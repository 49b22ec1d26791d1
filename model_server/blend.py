"""The wide rank blend: a weighted sum of places in the retrieval lists, the floor under every ranker; numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

MOST_LISTS = 2_000
SWEEPS, FACTORS, FIRST = 4, (0.0, 0.5, 0.7, 1.4, 2.0), (0.05, 0.2, 0.6)
"""How often each weight is tried in turn, what it is multiplied by, and what one of 0 is set to; the largest is 1."""

DEFAULT_WEIGHTS: Mapping[str, float] = {
    "own recent": 1.0,
    "own count": 1.0,
    "own often": 0.6,
    "co-visited": 0.8,
    "like sessions": 0.8,
    "1h": 1.0,
    "24h": 0.8,
    "7d": 0.4,
    "30d": 0.2,
    "hour of day": 0.2,
    "scene": 0.3,
    "own categories": 0.4,
    "explored": 0.05,
}
"""What a place in each list is worth before anything was learned."""


@dataclass(frozen=True)
class Blend:
    """Weights of the lists, f32[L]."""

    weights: F32

    def score(self, near: F32) -> F32:
        """Scores [B, C] of nearness [B, C, L]."""
        score: F32 = near @ self.weights
        return score

    def owed(self, near: F32, names: Sequence[str]) -> dict[str, float]:
        """What each list that found a candidate of nearness f32[L] adds to its score."""
        shares = (near * self.weights).tolist()
        return {name: share for name, share in zip(names, shares, strict=True) if share}


def default_blend(lists: Sequence[str]) -> Blend:
    """The blend before any training; a list the defaults do not know weighs a little."""
    return Blend(np.array([DEFAULT_WEIGHTS.get(name, 0.2) for name in lists], np.float32))


def fit_blend(near: F32, real: Bools, label: Bools, start: Blend, steps: int = 120, rate: float = 0.1) -> Blend:
    """Weights >= 0 that make the taken candidates likeliest (listwise softmax), by Adam over all lists at once.

    near f32[N, C, L], real and label bool[N, C]; lists without a taken candidate say nothing; the newest
    `MOST_LISTS` serve. Where nothing was taken the weights stay.
    """
    told = np.flatnonzero(label.any(1))[-MOST_LISTS:]
    if len(told) == 0:
        return start
    real, flat = real[told], near[told].reshape(-1, near.shape[2])
    target = label[told] / label[told].sum(1, keepdims=True)
    weights = 3.0 * start.weights.astype(np.float64)
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        score = np.where(real, (flat @ weights.astype(np.float32)).reshape(real.shape), -np.inf)
        share = np.exp(score - score.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        gradient = (share - target).astype(np.float32).reshape(-1) @ flat / len(told)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weights -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        np.maximum(weights, 0, out=weights)
    return Blend(weights.astype(np.float32))


def best_blend(near: F32, starts: Sequence[Blend], value: Callable[[F32], float]) -> Blend:
    """The blend that is best by `value` of its scores f32[N, C] of nearness f32[N, C, L].

    It climbs from each of `starts` and from the list that is best alone, so that it is below none of them: likelihood,
    by which `fit_blend` fits, minds every place, the metric the first ten.
    """
    alone = [Blend(weights) for weights in np.eye(near.shape[2], dtype=np.float32)]
    alone = sorted(alone, key=lambda blend: value(blend.score(near)), reverse=True)
    return max((_climbed(near, start, value) for start in (*starts, *alone[:1])), key=lambda found: found[1])[0]


def _climbed(near: F32, start: Blend, value: Callable[[F32], float]) -> tuple[Blend, float]:
    """The start with weights changed one at a time for as long as that is better, and its value."""
    weights = (start.weights / max(float(start.weights.max(initial=0)), 1e-9)).astype(np.float32)
    best = value(near @ weights)
    for _ in range(SWEEPS):
        before = best
        for place in range(len(weights)):
            tried = [float(weights[place]) * factor for factor in FACTORS] if weights[place] > 0 else FIRST
            for weight in tried:
                other = weights.copy()
                other[place] = weight
                reached = value(near @ other)
                if reached > best:
                    weights, best = other, reached
        if best == before:
            break
    return Blend(weights), best
