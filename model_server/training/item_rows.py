"""All items of a log as the live store would hold them, with their rows as of a moment of the replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.pairs import I32, I64
from streams.features.items import ItemEvents, ItemLayout, ItemView, fold_items, item_view

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

    def view(self, now_ms: int, index: NDArray[np.integer] | None = None, *, profiles: bool = True) -> ItemView:
        """Counters decayed to `now_ms`, of all items or of `index`, with or without the scene profiles."""
        return item_view(self.layout, self.rows if index is None else self.rows[index], now_ms, profiles=profiles)

    def fold(self, item: I32, ts_ms: I64, kind: NDArray[np.uint8], codes: NDArray[np.uint8]) -> None:
        """Fold events into the rows."""
        self.revision += 1
        fold_items(
            self.layout, self.rows, item.astype(np.int64), ItemEvents(ts_ms, kind, codes[:, self._profile_columns])
        )
