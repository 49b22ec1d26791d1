"""Counting in bounded memory what may have any number of values: heavy hitters, distinct values, repeated ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KEPT = 100_000
SAMPLED = 1 << 20


class Hitter(NamedTuple):
    """A value that comes often: it came `n` times, or up to `n + error` times."""

    value: str
    n: int
    error: int


class Heavy:
    """The most frequent of any number of values, counts exact to `error` (Misra and Gries, batch by batch).

    A value that came more than `error` times is kept, whatever the order; `error` is at most twice the total / `kept`.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self.total = 0
        self.error = 0
        self._counts: Counter[str] = Counter()

    def add(self, values: Iterable[str | None]) -> None:
        """Count a batch; None is no value."""
        batch = Counter(value for value in values if value is not None)
        self.total += batch.total()
        self._counts.update(batch)
        if len(self._counts) > self.kept:
            self._prune()

    def top(self, n: int) -> list[Hitter]:
        """The `n` most frequent, the first of equals by value."""
        ranked = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))[:n]
        return [Hitter(value, count, self.error) for value, count in ranked]

    def _prune(self) -> None:
        """Take the same from every count so that half are left: what one loses, `kept` / 2 others lose too."""
        counts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        taken = int(np.partition(counts, -self.kept // 2)[-self.kept // 2])
        self._counts = Counter({value: n - taken for value, n in self._counts.items() if n > taken})
        self.error += taken


class Sampled:
    """Distinct and repeated values by a sample of the values themselves: those whose hash is below a falling limit.

    Every occurrence of a sampled value is seen, so that both estimates are without bias; exact below `most` values.
    """

    def __init__(self, most: int = SAMPLED) -> None:
        self.most = most
        self.seen = 0
        self._share = 1.0
        self._hashes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._counts: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Count a batch of 64-bit hashes, evenly spread."""
        self.seen += len(hashes)
        values, counts = np.unique(self._below(hashes), return_counts=True)
        both = np.concatenate((self._hashes, values))
        merged, where = np.unique(both, return_inverse=True)
        totals = np.zeros(len(merged), np.int64)
        np.add.at(totals, where, np.concatenate((self._counts, counts)))
        self._hashes, self._counts = merged, totals
        while len(self._hashes) > self.most:
            self._share /= 2
            kept = self._hashes < np.uint64(self._share * 2**64)
            self._hashes, self._counts = self._hashes[kept], self._counts[kept]

    @property
    def exact(self) -> bool:
        """Whether every value was kept."""
        return self._share == 1.0

    @property
    def distinct(self) -> int:
        """Different values."""
        return round(len(self._hashes) / self._share)

    @property
    def repeated(self) -> int:
        """Occurrences beyond the first of each value."""
        return round(int((self._counts - 1).sum()) / self._share)

    def _below(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes if self._share == 1.0 else hashes[hashes < np.uint64(self._share * 2**64)]
