"""Whether the times of a log can be right: range, order, gaps and future, in bounded memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
LONG_GAP_MS = 2 * DAY_MS
"""A shop that is closed over the weekend has no gap."""
MOST_GAPS = 5


class LogTimes:
    """Times of lines in the order of the file, batch by batch; 0 is no time."""

    def __init__(self, now_ms: int, max_skew_ms: int, horizon_ms: int) -> None:
        self.now_ms, self.max_skew_ms, self.horizon_ms = now_ms, max_skew_ms, horizon_ms
        self.lines = self.known = self.future = self.expired = self.backwards = 0
        self.worst_step_ms = 0
        self.oldest_ms: int | None = None
        self.newest_ms: int | None = None
        self._running_ms: int | None = None
        self._hours: Counter[int] = Counter()

    def add(self, times_ms: NDArray[np.int64]) -> None:
        """Count the times i64[N] of lines that follow each other."""
        self.lines += len(times_ms)
        times_ms = times_ms[times_ms > 0]
        if len(times_ms) == 0:
            return
        self.known += len(times_ms)
        self.future += int((times_ms > self.now_ms + self.max_skew_ms).sum())
        self.expired += int((times_ms < self.now_ms - self.horizon_ms).sum())
        before = self._running_ms if self._running_ms is not None else int(times_ms[0])
        so_far = np.maximum.accumulate(np.concatenate(([before], times_ms)))
        steps = so_far[:-1] - times_ms
        self.backwards += int((steps > 0).sum())
        self.worst_step_ms = max(self.worst_step_ms, int(steps.max()))
        self._running_ms = int(so_far[-1])
        oldest_ms, newest_ms = int(times_ms.min()), int(times_ms.max())
        self.oldest_ms = oldest_ms if self.oldest_ms is None else min(self.oldest_ms, oldest_ms)
        self.newest_ms = newest_ms if self.newest_ms is None else max(self.newest_ms, newest_ms)
        hours, counts = np.unique(times_ms // HOUR_MS, return_counts=True)
        self._hours.update(dict(zip(hours.tolist(), counts.tolist(), strict=True)))

    def elsewhere(self) -> None:
        """What comes next does not follow what was before: another partition."""
        self._running_ms = None

    def gaps(self) -> list[tuple[int, int]]:
        """(start, length) in ms of the longest stretches of two days or more without a line, the longest first."""
        hours = np.array(sorted(self._hours), np.int64)
        if len(hours) < 2:
            return []
        empty = np.diff(hours) - 1
        order = np.argsort(-empty, kind="stable")[:MOST_GAPS]
        found = [(int(hours[i] + 1) * HOUR_MS, int(empty[i]) * HOUR_MS) for i in order.tolist()]
        return [gap for gap in found if gap[1] >= LONG_GAP_MS]

    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "lines": self.lines,
            "without": self.lines - self.known,
            "oldest_ms": self.oldest_ms,
            "newest_ms": self.newest_ms,
            "future": self.future,
            "expired": self.expired,
            "backwards": self.backwards,
            "worst_step_back_ms": self.worst_step_ms,
            "gaps": [{"from_ms": start, "length_ms": length} for start, length in self.gaps()],
        }
