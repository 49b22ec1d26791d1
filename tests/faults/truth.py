"""What Kafka has acknowledged: the records that must be in the log, and since when each waits to be applied."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field

from tests.faults.traffic import Outgoing

Place = tuple[str, int]
"""Topic and partition."""


@dataclass
class Truth:
    """Acknowledged records by place and offset; `unknown` counts sends whose fate the producer was never told."""

    records: dict[Place, dict[int, Outgoing]] = field(default_factory=lambda: defaultdict(dict))
    unknown: int = 0
    aborted: int = 0
    _offsets: dict[Place, list[int]] = field(default_factory=lambda: defaultdict(list))
    _since_s: dict[Place, list[float]] = field(default_factory=lambda: defaultdict(list))

    def acknowledge(self, place: Place, offset: int, record: Outgoing, now_s: float) -> None:
        """A record is safe in the log from now on."""
        self.records[place][offset] = record
        offsets, since_s = self._offsets[place], self._since_s[place]
        at = bisect_right(offsets, offset)
        offsets.insert(at, offset)
        since_s.insert(at, now_s)

    def waiting_since_s(self, place: Place, fence: int) -> float | None:
        """Since when the oldest record above a fence waits; None when there is none."""
        at = bisect_right(self._offsets[place], fence)
        return self._since_s[place][at] if at < len(self._offsets[place]) else None

    def newest_s(self, place: Place) -> float:
        """When the newest record of a place was acknowledged; 0 before the first."""
        return max(self._since_s[place], default=0.0)

    def forget(self, topic: str, partition: int | None = None) -> None:
        """A topic, or one partition of it, is gone, and with it what was acknowledged there."""
        for book in (self.records, self._offsets, self._since_s):
            for place in [place for place in book if place[0] == topic and partition in (None, place[1])]:
                del book[place]

    @property
    def count(self) -> int:
        return sum(len(records) for records in self.records.values())
