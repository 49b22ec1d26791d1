"""The catalogue that a log implies: of each item the values that most of its lines agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

KEPT = 32
"""So many values of a field are counted exactly for each item; of a price that is always another the rare ones go."""


class Catalogue:
    """Items as the lines so far tell them; its size is that of the catalogue, not of the log."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = {}
        self._values: dict[tuple[str, str], Counter[Any]] = {}
        self._fields: dict[str, None] = {}
        self._lines = 0

    def add(self, ids: Sequence[str], times_ms: Sequence[int], fields: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Hear the next lines: their items, times in ms, and values by field, None for none."""
        for line, (item_id, ts_ms) in enumerate(zip(ids, times_ms, strict=True), self._lines):
            known = self._times.get(item_id)
            if known is None:
                self._times[item_id] = [ts_ms, line, ts_ms]
            elif ts_ms > known[2]:
                known[2] = ts_ms
            elif ts_ms < known[0]:
                known[:2] = ts_ms, line
        self._lines += len(ids)
        for name, values in fields:
            self._fields.setdefault(name)
            for (item_id, value), n in Counter(zip(ids, values, strict=True)).items():
                if value is not None:
                    self._count(name, item_id, value, n)

    def items(self) -> dict[str, dict[str, Any]]:
        """Wire items by id in the order of their first mention; ts_ms is the newest; of equals the later value wins."""
        found = {}
        for item_id, (_, _, last_ms) in sorted(self._times.items(), key=lambda pair: pair[1][:2]):
            item: dict[str, Any] = {"item_id": item_id, "ts_ms": last_ms}
            for name in self._fields:
                counts = self._values.get((name, item_id))
                if counts:
                    item[name] = max(enumerate(counts), key=lambda pair: (counts[pair[1]], pair[0]))[1]
            found[item_id] = item
        return found

    def _count(self, name: str, item_id: str, value: Any, n: int) -> None:
        counts = self._values.get((name, item_id))
        if counts is None:
            counts = self._values[name, item_id] = Counter()
        counts[value] += n
        if len(counts) > 2 * KEPT:
            kept = {value for value, _ in counts.most_common(KEPT)}
            self._values[name, item_id] = Counter({value: n for value, n in counts.items() if value in kept})
