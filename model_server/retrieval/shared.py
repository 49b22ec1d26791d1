"""Lists that are the same for everybody at one moment: popular now, at this hour, in this scene, in this category."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.lifts import Lifts
from model_server.retrieval.pairs import F32, I32
from model_server.retrieval.titles import is_new

if TYPE_CHECKING:
    from model_server.scoring import ItemState
    from streams.features.declaration import Declaration

LONGEST = 200
"""Length every list is computed to; readers cut it shorter."""


class Shared:
    """Popularity lists of one moment, each computed when first asked for and kept.

    Build a new one when the items' counters moved; the arrays it reads are its own. `profiles` f32[M, S] and the
    `lifts` made of them may be older (they move over weeks) and know fewer items.
    """

    def __init__(self, declaration: Declaration, items: ItemState, now_ms: int, profiles: F32, lifts: Lifts) -> None:
        sums = items.sums
        self.now_ms = now_ms
        self.windows = sums.windows(slice(None), now_ms)[:, : len(declaration.windows)].astype(np.int64)
        self.totals = sums.totals.astype(np.int64)
        self.strong = sums.strong.astype(np.int64)
        self._new = is_new(self.totals, sums.ages_ms(slice(None), now_ms)[1])
        self.lifts = lifts
        self._profiles = profiles
        self._names = [window.name for window in declaration.windows]
        self._offered = np.asarray(items.listed & items.in_stock)
        self._category = np.array(items.category)
        self._categories = len(items.categories)
        self._lists: dict[tuple[str, int], I32] = {}
        self._tie = self.totals / (1.0 + float(self.totals.max(initial=0)))

    @property
    def size(self) -> int:
        """Number of items these lists know of."""
        return len(self.totals)

    def window(self, name: str) -> I32:
        """Items by events in a rolling window, most first."""
        return self._kept("window " + name, 0, lambda: self.windows[:, self._names.index(name)])

    def field(self, name: str, code: int) -> I32:
        """Items by recent events under one code of a scene field; hours look one hour to both sides."""
        return self._kept(name, code, lambda: self._profile(name, code))

    def by_category(self, count: int) -> I32:
        """The `count` most popular items of each category over the longest window but one: i32[categories + 1, count].

        The last row is that of no category, without items.
        """
        key = ("category", count)
        if key not in self._lists:
            self._lists[key] = self._top_of_categories(count)
        return self._lists[key]

    def offered(self) -> I32:
        """Every item that may be proposed and was ever seen."""
        return self._kept("offered", 0, lambda: self.totals, length=len(self.totals))

    def new(self, items: int) -> I32:
        """Those of `items` items that may be proposed and are new, or are not even known here yet."""
        known = np.flatnonzero(self._offered & self._new)
        return np.concatenate((known, np.arange(self.size, items))).astype(np.int32)

    def _kept(self, name: str, code: int, score: Callable[[], NDArray[np.generic]], length: int = LONGEST) -> I32:
        key = (name, code)
        found = self._lists.get(key)
        if found is None:
            found = self._lists[key] = self._top(score().astype(np.float64), length)
        return found

    def _profile(self, name: str, code: int) -> F32:
        grown = np.zeros(self.size, np.float32)
        if code:
            profile = self._profiles[: self.size, self.lifts.field(name)]
            before, after = 1 + (code - 2) % 24, 1 + code % 24
            codes = [before, code, after] if name == "hour" else [code]
            grown[: len(profile)] = profile[:, codes].sum(1)
        return grown

    def _top(self, score: NDArray[np.float64], count: int) -> I32:
        able = np.flatnonzero((score > 0) & self._offered)
        ranked = -(score[able] + self._tie[able])
        if len(able) > count:
            nearest = np.argpartition(ranked, count - 1)[:count]
            able, ranked = able[nearest], ranked[nearest]
        return able[np.lexsort((able, ranked))].astype(np.int32)

    def _top_of_categories(self, count: int) -> I32:
        best = np.full((self._categories + 1, count), -1, np.int32)
        score = self.windows[:, -2 if self.windows.shape[1] > 1 else -1] + self._tie
        able = np.flatnonzero((self._category >= 0) & self._offered & (self.totals > 0))
        if len(able):
            order = able[np.lexsort((able, -score[able], self._category[able]))]
            category = self._category[order]
            place = np.arange(len(order)) - np.searchsorted(category, category)
            kept = place < count
            best[category[kept], place[kept]] = order[kept]
        return best
