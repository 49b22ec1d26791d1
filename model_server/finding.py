"""What every ranker does before it scores: the moment's lists, items to try on purpose, candidates of each user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model_server.preparation import Freshness, Preparation

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
        users = len(requests.users)
        shared = self._freshness.at(items, now_ms)
        explored = explore(shared, users, self.preparation.retriever.quotas.explored, now_ms)
        now = np.full(users, now_ms, np.int64)
        found = self.preparation.find(requests.view, requests.scene, now, items, [shared] * users, explored)
        return found, shared


def explore(shared: Shared, users: int, count: int, seed: int) -> I32 | None:
    """`count` offered items for each user, drawn evenly; the same for the same seed."""
    offered = shared.offered()
    if len(offered) == 0 or users == 0:
        return None
    drawn: I32 = offered[np.random.default_rng(abs(seed)).integers(0, len(offered), (users, count))]
    return drawn
