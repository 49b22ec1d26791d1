"""The ranker before any bundle exists: the wide blend of the retrieval lists."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from model_server.blend import Blend, default_blend
from model_server.finding import Finder
from model_server.heads.heads import Heads
from model_server.preparation import Preparation
from model_server.retrieval.neighbours import Neighbours
from model_server.scoring import Weighed
from model_server.selection import Calibration, Inside, Selection, Timings, no_hidden

if TYPE_CHECKING:
    from collections.abc import Callable

    from model_server.scoring import I32, I64, ItemState, Requests, Scored
    from streams.features.declaration import Declaration

UNTRAINED = "blend"
USUAL = Calibration(slope=1.2, shift=-4.5)
USUAL_HEADS = Heads.untrained(USUAL.slope, USUAL.shift)


class BlendRanker:
    """Scores by the places in the lists alone; needs no torch, no training and no warm-up."""

    def __init__(
        self,
        preparation: Preparation,
        blend: Blend,
        calibration: Calibration = USUAL,
        heads: Heads = USUAL_HEADS,
        version: str = UNTRAINED,
    ) -> None:
        self.version = version
        self._finder = Finder(preparation)
        self._blend = blend
        self._select = Selection(preparation.declaration, preparation.retriever.names, calibration, heads)

    @classmethod
    def untrained(cls, declaration: Declaration) -> BlendRanker:
        """The blend of a shop that never trained anything."""
        preparation = Preparation(declaration, np.empty(0, np.uint64), Neighbours.none())
        return cls(preparation, default_blend(preparation.retriever.names))

    def tokens(self, history: I64) -> I64:
        """One a user: nothing is padded here."""
        return np.ones(len(history), np.int64)

    def score(self, requests: Requests, items: ItemState, now_ms: int) -> Scored:
        """The best items of each user."""
        return self.begin(requests, items, now_ms)()

    def weigh(self, requests: Requests, items: ItemState, now_ms: int, wanted: I32) -> Weighed:
        """Score the items `wanted` i32[K] for each user, found or not."""
        near = self._finder.look_at(requests, items, now_ms, wanted).candidates.near
        calibration, names = self._select.calibration, self._select.lists

        def owed(user: int, place: int) -> dict[str, float]:
            return calibration.logit(self._blend.owed(near[user, place], names))

        return Weighed(calibration.logits(self._blend.score(near)), near > 0, owed)

    def begin(self, requests: Requests, items: ItemState, now_ms: int) -> Callable[[], Scored]:
        """Find; what is left is the blend and the choice."""
        started = perf_counter()
        found, shared = self._finder.find(requests, items, now_ms)
        retrieve_ms = 1000 * (perf_counter() - started)

        def rest() -> Scored:
            began = perf_counter()
            score = self._blend.score(found.candidates.near)
            timings = Timings(retrieve_ms, 0.0, 1000 * (perf_counter() - began))
            near, names = found.candidates.near, self._select.lists

            def owed(user: int, place: int) -> dict[str, float]:
                return self._blend.owed(near[user, place], names)

            return self._select(found.candidates, score, Inside(no_hidden, owed), requests, shared, timings)

        return rest
