"""What had happened strictly before a moment, exactly and for many (key, moment) pairs at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


class Before:
    """E happenings of keys i64[E] >= 0 at ts_ms i64[E], in any order; keys and moments asked for broadcast."""

    def __init__(self, key: I64, ts_ms: I64) -> None:
        order = np.lexsort((ts_ms, key))
        key, self._ts_ms = key[order], ts_ms[order]
        self._keys, self._start, number = np.unique(key, return_index=True, return_inverse=True)
        self._first_ms = int(ts_ms.min()) if len(ts_ms) else 0
        self._span_ms = int(ts_ms.max(initial=self._first_ms)) - self._first_ms + 2
        # Key and time in one word: one binary search finds both.
        self._packed = number * self._span_ms + (self._ts_ms - self._first_ms)
        self._place = np.arange(len(key)) - self._start[number]
        self._halved: dict[int, F64] = {}

    def count(self, key: I64, now_ms: I64, window_ms: int | None = None) -> I64:
        """How often each key happened in the trailing window (None: since ever)."""
        number, end = self._find(key, now_ms)
        start = self._start_of(number) if window_ms is None else self._find(key, now_ms - window_ms)[1]
        return end - start

    def last_ms(self, key: I64, now_ms: I64) -> I64:
        """When each key happened last, 0 for never."""
        number, end = self._find(key, now_ms)
        known = end > self._start_of(number)
        return np.where(known, np.append(self._ts_ms, 0)[end - 1], 0)

    def decayed(self, key: I64, now_ms: I64, half_life_ms: int) -> F64:
        """How often each key happened, every happening halved each `half_life_ms`."""
        number, end = self._find(key, now_ms)
        known = end > self._start_of(number)
        if half_life_ms not in self._halved:
            self._halved[half_life_ms] = self._sums(half_life_ms)
        age_ms = np.where(known, now_ms - np.append(self._ts_ms, 0)[end - 1], 0)
        return np.where(known, np.append(self._halved[half_life_ms], 0)[end - 1] * 0.5 ** (age_ms / half_life_ms), 0.0)

    def _sums(self, half_life_ms: int) -> F64:
        """The decayed count of each happening's key, itself included, as of its own moment."""
        sums = np.ones(len(self._ts_ms))
        faded = np.ones(len(sums))
        faded[1:] = 0.5 ** (np.maximum(np.diff(self._ts_ms), 0) / half_life_ms)
        by_place = np.argsort(self._place, kind="stable")
        ends = np.cumsum(np.bincount(self._place))
        for start, end in pairwise(ends):
            at = by_place[start:end]
            sums[at] += sums[at - 1] * faded[at]
        return sums

    def _find(self, key: I64, now_ms: I64) -> tuple[I64, I64]:
        """(number of each key, -1 unknown; position after its last happening before the moment)."""
        if len(self._keys) == 0:
            return np.full(key.shape, -1), np.zeros(key.shape, np.int64)
        number = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        known = self._keys[number] == key
        since = np.clip(now_ms - self._first_ms, 0, self._span_ms - 1)
        end = np.searchsorted(self._packed, number * self._span_ms + since)
        return np.where(known, number, -1), np.where(known, end, 0)

    def _start_of(self, number: I64) -> I64:
        found: I64 = np.append(self._start, 0)[number]
        return found
