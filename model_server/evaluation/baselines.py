"""Rankings without a model, computed from the log alone: what a ranker must be above to be worth its cost."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.metrics import of_ranks

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Actions(NamedTuple):
    """E things users did with items, in time order: ts_ms i64[E], user i64[E] in 0..U-1, item i64[E] in 0..M-1."""

    ts_ms: I64
    user: I64
    item: I64
    users: int
    items: int


class History:
    """What was known strictly before a request: everybody's actions and the user's own."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self._by_user = np.argsort(actions.user, kind="stable")
        self._starts = np.searchsorted(actions.user[self._by_user], np.arange(actions.users + 1))

    def counts(self, now_ms: int, window_ms: int | None) -> F64:
        """Everybody's actions by item in the trailing window (None: since ever), f64[M]."""
        ts_ms = self.actions.ts_ms
        end = np.searchsorted(ts_ms, now_ms)
        start = 0 if window_ms is None else np.searchsorted(ts_ms, now_ms - window_ms)
        return self._tally(np.arange(start, end), None)

    def last_ms(self, now_ms: int) -> F64:
        """Time of anybody's last action by item, 0 for none, f64[M]."""
        end = np.searchsorted(self.actions.ts_ms, now_ms)
        last = np.zeros(self.actions.items)
        last[self.actions.item[:end]] = self.actions.ts_ms[:end]
        return last

    def own(self, user: int, now_ms: int, half_life_ms: int | None) -> F64:
        """The user's own actions by item, halved every `half_life_ms` (None: never), f64[M]."""
        mine = self._mine(user, now_ms)
        if half_life_ms is None:
            return self._tally(mine, None)
        return self._tally(mine, 0.5 ** ((now_ms - self.actions.ts_ms[mine]) / half_life_ms))

    def own_last_ms(self, user: int, now_ms: int) -> F64:
        """Time of the user's own last action by item, 0 for none, f64[M]."""
        mine = self._mine(user, now_ms)
        last = np.zeros(self.actions.items)
        last[self.actions.item[mine]] = self.actions.ts_ms[mine]
        return last

    def _mine(self, user: int, now_ms: int) -> I64:
        mine = self._by_user[self._starts[user] : self._starts[user + 1]]
        return mine[: np.searchsorted(self.actions.ts_ms[mine], now_ms)]

    def _tally(self, chosen: I64, weight: F64 | None) -> F64:
        return np.bincount(self.actions.item[chosen], weight, self.actions.items).astype(np.float64)


BASELINES: Mapping[str, Callable[[History, int, int], F64]] = {
    "popularity": lambda h, _, now: h.counts(now, None),
    "popularity 1 h": lambda h, _, now: h.counts(now, HOUR_MS),
    "popularity 24 h": lambda h, _, now: h.counts(now, DAY_MS),
    "popularity 7 d": lambda h, _, now: h.counts(now, 7 * DAY_MS),
    "last seen by anyone": lambda h, _, now: h.last_ms(now),
    "user frequency": lambda h, user, now: h.own(user, now, None),
    "user decayed 7 d": lambda h, user, now: h.own(user, now, 7 * DAY_MS),
    "user decayed 30 d": lambda h, user, now: h.own(user, now, 30 * DAY_MS),
    "user recency": lambda h, user, now: h.own_last_ms(user, now),
}
"""Name -> score of every item for (history, user, now_ms)."""


def ranks_of(score: F64, tie_order: I64, positives: I64) -> I64:
    """Ranks (1 = best) of the positives; `tie_order` lists the items, the one that wins a tie first."""
    rank = np.empty(len(score), np.int64)
    rank[tie_order[np.argsort(-score[tie_order], kind="stable")]] = np.arange(1, len(score) + 1)
    return rank[positives]


def evaluate(
    history: History, user: I64, now_ms: I64, positives: list[I64], tick: Callable[[], object] = lambda: None
) -> dict[str, dict[str, F64]]:
    """Metrics of every baseline at every request: baseline -> metric -> f64[B]."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in BASELINES}
    for who, now, wanted in zip(user.tolist(), now_ms.tolist(), positives, strict=True):
        tie_order = np.argsort(-history.counts(now, None), kind="stable")
        for name, score in BASELINES.items():
            for metric, value in of_ranks(ranks_of(score(history, who, now), tie_order, wanted)).items():
                found[name].setdefault(metric, []).append(value)
        tick()
    return {name: {m: np.array(v) for m, v in metrics.items()} for name, metrics in found.items()}
