"""The item table: rows of items by item partition, folded from deltas that count once however often they arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple, Unpack

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.deltas import DeltaSource
from schemas.keys import Keys
from streams.features.items import ItemEvents, ItemLayout, fold_items
from streams.features.rows import Slots
from streams.tables.fenced import FencedTable, TableOptions
from streams.tables.part import Part
from streams.tables.store import ItemWrite, Store


class DeltaRun(NamedTuple):
    """One delta record: its own offset, the source records it stands for, their DELTA[E], and the items these name."""

    offset: int
    source: DeltaSource
    deltas: NDArray[np.void]
    item_ids: Sequence[str]


@dataclass
class ItemChange:
    """What one chunk says about items: delta records in offset order, catalogue entries as JSON, items removed.

    `sources` and `repeated` are told by the table: how far each source is folded after it, and how many of its deltas
    were folded before.
    """

    deltas: Sequence[DeltaRun] = ()
    entries: Mapping[bytes, bytes] = field(default_factory=dict)
    removed: Sequence[bytes] = ()
    sources: Mapping[bytes, int] = field(default_factory=dict)
    repeated: int = 0


class ItemTable(FencedTable[ItemChange]):
    """Rows and catalogue of items; `deltas` counts deltas "folded" and "repeated", those that were folded before."""

    def __init__(self, store: Store, keys: Keys, layout: ItemLayout, **options: Unpack[TableOptions]) -> None:
        super().__init__(store, keys.item_tag, layout, **options)
        self.layout = layout
        self.deltas: Counter[str] = Counter()

    def _above(self, part: Part, change: ItemChange, fence: int) -> ItemChange:
        runs, sources = _unfolded([run for run in change.deltas if run.offset > fence], part.sources)
        folded, told = (sum(len(run.deltas) for run in deltas) for deltas in (runs, change.deltas))
        return replace(change, deltas=runs, sources=sources, repeated=told - folded)

    def _together(self, changes: Sequence[ItemChange]) -> ItemChange:
        return changes[0] if len(changes) == 1 else together(changes)

    async def _hold(self, part: Part, partition: int, change: ItemChange) -> Slots:
        items = [item for run in change.deltas for item in run.item_ids]
        return await self._held(part, items, partial(self.store.item_rows, self.tag(partition)))

    def _fold_held(self, part: Part, change: ItemChange, slots: Slots) -> ItemWrite:
        touched = self._fold_runs(part, change.deltas, slots)
        items = [part.cache.names[slot] for slot in touched.tolist()]
        changed = dict.fromkeys([*items, *change.entries, *change.removed])
        return ItemWrite(
            items=items,
            rows=part.cache.blobs(touched),
            entries=change.entries,
            removed=change.removed,
            touched=orjson.dumps([item.decode() for item in changed]) if changed else b"",
            sources=change.sources,
        )

    def _applied(self, change: ItemChange) -> None:
        self.deltas.update(folded=sum(len(run.deltas) for run in change.deltas), repeated=change.repeated)

    def _fold_runs(self, part: Part, runs: Sequence[DeltaRun], slots: Slots) -> Slots:
        """Fold all runs at once, in place; the slots touched."""
        if not runs:
            return np.empty(0, np.int64)
        deltas = np.concatenate([run.deltas for run in runs])
        lengths = np.array([(len(run.deltas), len(run.item_ids)) for run in runs])
        first_id = np.repeat(np.cumsum(lengths[:, 1]) - lengths[:, 1], lengths[:, 0])
        codes = deltas["codes"][:, : len(self.layout.declaration.delta_fields)]
        events = ItemEvents(
            ts_ms=deltas["ts_ms"].astype(np.int64),
            kind=deltas["kind"].copy(),
            codes=np.column_stack((deltas["hour"], deltas["weekday"], codes)),
        )
        return fold_items(self.layout, part.cache.rows, slots[first_id + deltas["item"]], events)


def together(changes: Sequence[ItemChange]) -> ItemChange:
    """Delta records and catalogue records, which come from two topics, as one change."""
    return ItemChange(
        deltas=[run for change in changes for run in change.deltas],
        entries={item: entry for change in changes for item, entry in change.entries.items()},
        removed=[item for change in changes for item in change.removed],
        sources={name: offset for change in changes for name, offset in change.sources.items()},
        repeated=sum(change.repeated for change in changes),
    )


def source_field(source: DeltaSource) -> bytes:
    """The field of the meta hash that keeps the last offset folded of a source partition's incarnation."""
    return f"s:{source.topic}:{source.incarnation}:{source.partition}".encode()


def _unfolded(runs: Sequence[DeltaRun], done: Mapping[bytes, int]) -> tuple[list[DeltaRun], dict[bytes, int]]:
    """What of the runs was not folded before, and how far each source is folded after them.

    A zombie's late record, or one read again after a rollback on either side, is at or below what is done; a record
    of another cut of the same source may overlap it.
    """
    left, after = [], dict[bytes, int]()
    for run in runs:
        name = source_field(run.source)
        last = after.get(name, done.get(name, -1))
        if run.source.last <= last:
            continue
        after[name] = run.source.last
        left.append(run if run.source.first > last else _above(run, last))
    return [run for run in left if len(run.deltas)], after


def _above(run: DeltaRun, offset: int) -> DeltaRun:
    at = run.deltas["offset"].astype(np.int64) + run.source.first
    return run._replace(deltas=run.deltas[at > offset])
