"""Whether the world moved away from a ranker: a change in how well it ranks, request after request, found by ADWIN."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DELTA = 0.002
"""Chance of an alarm where nothing changed, as ADWIN bounds it."""


class Drift(NamedTuple):
    """A change: when it was noticed, and the means before and after it."""

    at_ms: int
    before: float
    after: float

    @property
    def worse(self) -> bool:
        return self.after < self.before


def drifts(values: F64, ts_ms: I64) -> list[Drift]:
    """Changes of the mean of `values` f64[N] in 0..1, in time order `ts_ms` i64[N] (Bifet and Gavaldà, 2007)."""
    from river.drift import ADWIN

    window, found, start = ADWIN(delta=DELTA), [], 0  # type: ignore[no-untyped-call]
    for number, value in enumerate(values.tolist()):
        window.update(value)  # type: ignore[no-untyped-call]
        if window.drift_detected:
            end = number + 1
            changed = max(end - int(window.width), start + 1)  # what ADWIN still holds came after the change
            before, after = float(values[start:changed].mean()), float(values[changed:end].mean())
            found.append(Drift(int(ts_ms[number]), before, after))
            start = changed
    return found
