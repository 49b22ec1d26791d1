"""What every ranker does before it scores: the moment's lists, items to try on purpose, candidates of each user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_server.preparation import Freshness, Preparation
from model_server.retrieval.merge import Candidates

if TYPE_CHECKING:
    from model_server.retrieval.pairs import I32
    from model_server.retrieval.retriever import Retrieved
    from model_server.retrieval.shared import Shared
    from model_server.scoring import ItemState, Requests

REFRESH_MS = 5_000


class Finder:
    """Finds candidates of live requests; keeps the shared lists at most five seconds."""

    def __init__(self, preparation: Preparation, refresh_ms: int = REFRESH_MS) -> None:
        self.preparation = preparation
        self._freshness = Freshness(preparation.declaration, refresh_ms)

    def find(self, requests: Requests, items: ItemState, now_ms: int) -> tuple[Retrieved, Shared]:
        """Candidates of all users of `requests`."""
        shared = self._freshness.at(items, now_ms)
        explored = explore(shared, len(requests.users), self._explored, now_ms)
        return self._find(requests, items, now_ms, shared, explored), shared

    def look_at(self, requests: Requests, items: ItemState, now_ms: int, wanted: I32) -> Retrieved:
        """The items `wanted` i32[K] as candidates of every user, with their places in the lists that find them.

        What is tried on purpose is what one user alone would be given.
        """
        users, shared = len(requests.users), self._freshness.at(items, now_ms)
        one = explore(shared, 1, self._explored, now_ms)
        explored = None if one is None else np.repeat(one, users, 0)
        found = self._find(requests, items, now_ms, shared, explored)
        return found._replace(candidates=_these(found.candidates, wanted))

    @property
    def _explored(self) -> int:
        return self.preparation.retriever.quotas.explored

    def _find(
        self, requests: Requests, items: ItemState, now_ms: int, shared: Shared, explored: I32 | None
    ) -> Retrieved:
        users = len(requests.users)
        now = np.full(users, now_ms, np.int64)
        return self.preparation.find(requests.view, requests.scene, now, items, [shared] * users, explored)


def _these(found: Candidates, wanted: I32) -> Candidates:
    """The items `wanted` i32[K] of every user among what was found; near none of the lists where they are not there."""
    same = found.item[:, None, :] == wanted[None, :, None]
    near = np.take_along_axis(found.near, same.argmax(2)[:, :, None], 1) * same.any(2)[:, :, None]
    return Candidates(np.repeat(wanted[None], len(found.item), 0), near)


def explore(shared: Shared, users: int, count: int, seed: int) -> I32 | None:
    """`count` offered items for each user, drawn evenly; the same for the same seed."""
    offered = shared.offered()
    if len(offered) == 0 or users == 0:
        return None
    drawn: I32 = offered[np.random.default_rng(abs(seed)).integers(0, len(offered), (users, count))]
    return drawn
