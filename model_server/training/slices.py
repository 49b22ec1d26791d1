"""Which moments an incremental training learns from: new ones, older ones of every sort, and those it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.training.dataset import Chosen, TrainingError
from model_server.training.requests import moments, target_kinds

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.recorded import Recorded
    from model_server.training.requests import Moments
    from streams.features.declaration import Declaration

I64 = NDArray[np.int64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAYPARTS = 4
FEWEST = 30
"""Requests, at least, to learn from, to calibrate by and to be judged by."""


@dataclass(frozen=True)
class Slicing:
    """How the moments since the last training are divided, and how many older ones go with them.

    The gate is the newest hour, or the newest `gate_least` requests where an hour has fewer, at most `gate_most`.
    `calibrated`: the newest share of the rest, which nothing is learned from yet. `replayed`: older requests for each
    new one, as far as there are.
    """

    gate_ms: int = HOUR_MS
    gate_least: int = 200
    gate_most: int = 3_000
    calibrated: float = 0.25
    replayed: float = 1.0


def new_moments(
    recorded: Recorded, declaration: Declaration, config: TrainConfig, slicing: Slicing, learned_until_ms: int
) -> Chosen:
    """Requests of an incremental training on top of one that learned until `learned_until_ms`.

    `train` are older ones and new ones in time order, `valid` what probabilities are fitted by, `test` the gate.
    Raises TrainingError where too little is new.
    """
    found = moments(recorded, declaration, target_kinds(recorded, declaration, config.target))
    first = int(np.searchsorted(found.ts_ms, learned_until_ms))
    gate = _gate(found, first, slicing)
    most = config.valid + round(config.lists / (1 + slicing.replayed))
    new = _start(found, max(first, gate - most), first)
    valid = _start(found, gate - min(config.valid, round((gate - new) * slicing.calibrated)), first)
    if min(len(found) - gate, gate - valid, valid - new) < FEWEST:
        text = (
            f"{len(found) - first} moments since the bundle in force learned are too few to learn from, to calibrate "
            f"by and to be judged by ({FEWEST} each at least): wait for more, or train anew"
        )
        raise TrainingError(text)
    count = round((valid - new) * slicing.replayed)
    old = spread(strata(found.ts_ms[:first], learned_until_ms), count, np.random.default_rng(config.seed))
    gated = np.arange(max(gate, len(found) - slicing.gate_most), len(found))
    return Chosen(found, np.concatenate([old, np.arange(new, valid)]), np.arange(valid, gate), gated)


def _gate(found: Moments, first: int, slicing: Slicing) -> int:
    """The first request of the gate; what happens at one moment is on one side."""
    if first == len(found):
        return first
    by_time = int(np.searchsorted(found.ts_ms, found.ts_ms[-1] - slicing.gate_ms))
    return _start(found, max(min(by_time, len(found) - slicing.gate_least), first), first)


def _start(found: Moments, request: int, first: int) -> int:
    """The first request of the same moment, not before `first`."""
    return max(first, int(np.searchsorted(found.ts_ms, found.ts_ms[request]))) if request < len(found) else request


def strata(ts_ms: I64, now_ms: int) -> I64:
    """The sort of each moment: how old it is, in octaves of days, its quarter of the day (UTC) and weekend or not."""
    days = np.maximum(now_ms - ts_ms, 0) / DAY_MS
    age = np.log2(1 + days).astype(np.int64)
    quarter = ts_ms % DAY_MS * DAYPARTS // DAY_MS
    weekend = (ts_ms // DAY_MS + 3) % 7 >= 5  # the first of January 1970 was a Thursday
    return (age * DAYPARTS + quarter) * 2 + weekend


def spread(stratum: I64, count: int, rng: np.random.Generator) -> I64:
    """Positions of `count` in order, as many of every stratum while it lasts; which ones is left to chance."""
    lot = rng.random(len(stratum))
    order = np.lexsort((lot, stratum))
    ordered = stratum[order]
    rank = np.empty(len(stratum), np.int64)
    rank[order] = np.arange(len(stratum)) - np.searchsorted(ordered, ordered)
    return np.sort(np.lexsort((lot, rank))[:count]).astype(np.int64)
