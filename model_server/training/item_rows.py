"""All items of a log as the live store would hold them, with their rows as of a moment of the replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.item_sums import ItemSums
from model_server.retrieval.pairs import I32, I64
from streams.features.items import ItemEvents, ItemLayout, fold_items

if TYPE_CHECKING:
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration


class ItemRows:
    """The `ItemState` of a replay: every item of the log has its index from the start, rows grow with the events."""

    def __init__(self, recorded: Recorded, declaration: Declaration) -> None:
        self.layout = ItemLayout(declaration)
        self.rows = self.layout.empty(len(recorded.codes))
        self.ids: Sequence[str] = recorded.item_ids
        self.codes = recorded.codes
        self.category = recorded.category
        self.categories: Sequence[str] = recorded.categories
        self.price = recorded.price
        self.titles: Sequence[str] = recorded.titles
        self.in_stock = np.ones(len(self.codes), np.bool_)
        self.listed = np.ones(len(self.codes), np.bool_)
        self.revision = 0
        self.catalogue_revision = 0
        self._sums, self._changed = ItemSums.of(self.layout, self.rows), list[I64]()
        self._order = np.argsort(self.codes)
        self._sorted = self.codes[self._order]
        names = declaration.scene_names
        self._profile_columns = [names.index(name) for name in declaration.profile_names]

    def find(self, codes: NDArray[np.uint64]) -> I32:
        """Index of each code, -1 where no such item is known."""
        if len(self._sorted) == 0:
            return np.full(codes.shape, -1, np.int32)
        at = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
        return np.where(self._sorted[at] == codes, self._order[at], -1).astype(np.int32)

    @property
    def sums(self) -> ItemSums:
        """Counts of all items; of those that changed since the last look they are made anew."""
        if self._changed:
            changed = np.unique(np.concatenate(self._changed))
            self._sums.put(changed, ItemSums.of(self.layout, self.rows[changed]))
            self._changed = []
        return self._sums

    def fold(self, item: I32, ts_ms: I64, kind: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
        """Fold events into the rows."""
        self.revision += 1
        events = ItemEvents(ts_ms, kind, codes[:, self._profile_columns])
        self._changed.append(fold_items(self.layout, self.rows, item.astype(np.int64), events))
