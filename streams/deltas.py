"""Item deltas: what a chunk of user events means to items, grouped into one packed record for each item partition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.deltas import DELTA, DeltaSource, pack_deltas
from schemas.encoding import Headers
from schemas.partition import partition_of
from streams.features.columns import Columns
from streams.features.declaration import Declaration

MAX_CACHED = 1_000_000


class DeltaRecord(NamedTuple):
    """One record for the deltas topic, to be sent to exactly this partition."""

    partition: int
    value: bytes
    headers: Headers


class _Homes(dict[str, int]):
    """Item partitions by item id, computed on first sight and forgotten together when a million are known."""

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self.partitions = partitions

    def __missing__(self, item_id: str) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        home = self[item_id] = partition_of(item_id.encode(), self.partitions)
        return home


class DeltaMaker:
    """Makes delta records under one declaration for `partitions` item partitions: a pure function of the events."""

    def __init__(self, declaration: Declaration, partitions: int) -> None:
        self.schema = declaration.schema
        self._counted = np.array([kind.item for kind in declaration.kinds])
        self._fields = [declaration.scene_names.index(name) for name in declaration.delta_fields]
        self._hour, self._weekday = (declaration.scene_names.index(name) for name in ("hour", "weekday"))
        self._homes = _Homes(partitions)
        self.partitions = partitions

    def make(
        self, source: DeltaSource, offsets: NDArray[np.int64], columns: Columns, items: Sequence[str]
    ) -> list[DeltaRecord]:
        """Records for the events that items count, E events in offset order; none when no item counts any."""
        counted = np.flatnonzero(self._counted[columns.kind])
        if len(counted) == 0:
            return []
        names = items if len(counted) == len(items) else [items[i] for i in counted.tolist()]
        number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        item = np.fromiter(map(number.__getitem__, names), np.int64, len(names))
        home = np.fromiter(map(self._homes.__getitem__, number), np.int64, len(number))
        deltas = self._columns(source.first, offsets[counted], columns, counted)
        return self._by_home(source, deltas, item, home, list(number))

    def _columns(
        self, first: int, offsets: NDArray[np.int64], columns: Columns, counted: NDArray[np.int64]
    ) -> NDArray[np.void]:
        deltas = np.zeros(len(counted), DELTA)
        codes = columns.codes[counted]
        deltas["ts_ms"] = columns.ts_ms[counted]
        deltas["offset"] = offsets - first
        deltas["kind"] = columns.kind[counted]
        deltas["hour"] = codes[:, self._hour]
        deltas["weekday"] = codes[:, self._weekday]
        deltas["codes"][:, : len(self._fields)] = codes[:, self._fields]
        return deltas

    def _by_home(
        self,
        source: DeltaSource,
        deltas: NDArray[np.void],
        item: NDArray[np.int64],
        home: NDArray[np.int64],
        names: list[str],
    ) -> list[DeltaRecord]:
        """Split deltas by their item's home; in each record items are numbered from 0 in order of appearance."""
        headers = source.headers()
        by_home = np.argsort(home, kind="stable")
        names_at = _bounds(home, self.partitions)
        rank = np.empty(len(home), np.int64)
        rank[by_home] = np.arange(len(home))
        deltas["item"] = rank[item] - names_at[home[item]]
        event_home = home[item]
        deltas = deltas[np.argsort(event_home, kind="stable")]
        events_at = _bounds(event_home, self.partitions).tolist()
        ordered = [names[i] for i in by_home.tolist()]
        bounds = names_at.tolist()
        return [
            DeltaRecord(p, pack_deltas(deltas[first:end], ordered[bounds[p] : bounds[p + 1]]), headers)
            for p, (first, end) in enumerate(pairwise(events_at))
            if end > first
        ]


def _bounds(homes: NDArray[np.int64], partitions: int) -> NDArray[np.int64]:
    """Where each partition's share begins when homes are sorted, and where the last one ends."""
    bounds = np.zeros(partitions + 1, np.int64)
    np.cumsum(np.bincount(homes, minlength=partitions), out=bounds[1:])
    return bounds
