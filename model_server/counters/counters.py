"""All counters of all candidates of a batch, strictly as of the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.counters.items import closeness, item_counters, log1p, scene_codes, scene_counters
from model_server.counters.names import counter_names, places
from model_server.counters.numbered import Numbered
from model_server.counters.titles import title_counters
from model_server.retrieval.pairs import F32, I32, I64
from model_server.retrieval.titles import is_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_server.counters.items import Seen
    from model_server.retrieval.neighbours import Mapped
    from model_server.retrieval.own import Own
    from model_server.retrieval.pairs import Pairs
    from model_server.retrieval.retriever import Retrieved
    from model_server.retrieval.shared import Shared
    from model_server.scoring import ItemState
    from streams.features.declaration import Declaration
    from streams.features.view import UserView


class Counters:
    """Computes f32[B, C, F]; `names` says what each of the F is. A counter never depends on the other candidates.

    What is known of an item alone is counted once an item, and comes as a whole row; what is known of few (user, item)
    pairs is written where it is known.
    """

    def __init__(self, declaration: Declaration, lists: Sequence[str]) -> None:
        self.declaration = declaration
        self.names = counter_names(declaration, lists)
        self._place = places(declaration, lists)
        self._hour, self._weekday = (declaration.scene_names.index(name) for name in ("hour", "weekday"))

    def __call__(
        self,
        users: UserView,
        scene: NDArray[np.uint8],
        found: Retrieved,
        candidates: Numbered,
        seen: Seen,
        items: ItemState,
        neighbours: Mapped,
    ) -> F32:
        """Counters of the candidates of B users, seen as of the request. The counters of padding are 0."""
        item, place = found.candidates.item, self._place
        counters = np.zeros((*item.shape, len(self.names)), np.float32)
        if not len(candidates.distinct):
            return counters
        cost = items.price[seen.item]
        np.take(self._alone(seen, cost, neighbours), seen.at, axis=0, out=counters, mode="clip")
        category = Numbered.of(candidates.each(items.category, -1), len(items.categories))
        codes = scene_codes(self.declaration, scene)
        told = np.flatnonzero(codes.any(1))  # Most shops tell few of the fields.
        expected = _expected(found.shared, told, codes[told], category.column)
        for field, lifts in zip(told.tolist(), scene_counters(seen, told, codes[told], *expected), strict=True):
            counters[:, :, place["scene"].start + field] = lifts
        flat = counters.reshape(-1, len(self.names))
        own = found.own
        _put(flat[:, place["own"]], candidates, own.items, _own(own))
        _put(flat[:, place["category"]], category, own.categories, _categories(own))
        _put(flat[:, place["together"]], candidates, found.together, _logs(found.together, "sum", "max", "last"))
        _put(flat[:, place["following"]], candidates, found.following, _logs(found.following, "sum", "max", "last"))
        _put(flat[:, place["alike"]], candidates, found.alike, _logs(found.alike, "score"))
        counters[:, :, place["price"].start + 1] = _price_distance(users, seen, cost)
        if found.titles is not None:
            new = is_new(seen.sums.totals[seen.row], seen.sums.ages_ms(seen.row, seen.now_ms)[1])
            counters[:, :, place["titles"]] = title_counters(found.titles.vectors, own.recent, item, seen.of(new))
        counters[:, :, place["lists"]] = found.candidates.near
        counters[:, :, place["request"]] = self._request(users, scene, own)[:, None]
        counters[item < 0] = 0
        return counters

    def _alone(self, seen: Seen, cost: F32, neighbours: Mapped) -> F32:
        """Counters of the R items that are seen, f32[R, F], what depends on the user left 0."""
        rows = np.zeros((len(seen.row), len(self.names)), np.float32)
        rows[:, self._place["item"]] = item_counters(self.declaration, seen, neighbours.repeat(seen.item))
        known = np.isfinite(cost) & (cost > 0)
        rows[known, self._place["price"].start] = np.log1p(cost[known])
        return rows

    def _request(self, users: UserView, scene: NDArray[np.uint8], own: Own) -> F32:
        valid = own.past.valid
        entries = np.maximum(valid.sum(1), 1)
        distinct = np.bincount(own.items.user, minlength=len(valid))
        kinds = self.declaration.kinds
        active = np.array([kind.active for kind in kinds])
        strong = np.array([kind.strong for kind in kinds])[own.past.kind] & valid
        angle = 2 * np.pi / 24 * (scene[:, self._hour].astype(np.float64) - 1)
        known = scene[:, self._hour] > 0
        return np.stack(
            (
                np.log1p(users.totals[:, active].sum(1, dtype=np.int64)),
                closeness(np.where(users.idle_ms < 0, -1, users.idle_ms // 1000)),
                np.log1p(valid.sum(1)),
                1.0 - distinct / entries,
                strong.sum(1) / entries,
                np.log1p(np.where(users.in_session, users.session_n, 0)),
                np.where(known, np.sin(angle), 0),
                np.where(known, np.cos(angle), 0),
                scene[:, self._weekday] >= 6,
            ),
            axis=1,
            dtype=np.float32,
        )


def _put(counters: F32, candidates: Numbered, pairs: Pairs, columns: Sequence[NDArray[np.floating]]) -> None:
    """Write into counters f32[B * C, n] what is known of those pairs that are candidates, from n columns [G]."""
    place, pair = candidates.look_up(pairs)
    rows = np.empty((len(pairs.user), len(columns)), np.float32)
    for i, column in enumerate(columns):
        rows[:, i] = column
    counters[place] = np.take(rows, pair, axis=0)


def _logs(pairs: Pairs, *names: str) -> list[F32]:
    return [log1p(pairs.values[name]) for name in names]


def _own(own: Own) -> Sequence[NDArray[np.floating]]:
    v = own.items.values
    gap_s = (v["first_s"] - v["last_s"]) / np.maximum(v["n"] - 1, 1)
    ratio = np.where((v["n"] > 1) & (gap_s > 0), np.minimum(v["last_s"] / np.maximum(gap_s, 1), 100), 0)
    return (
        log1p(v["n"]),
        log1p(v["d1"]),
        log1p(v["d7"]),
        log1p(v["d30"]),
        closeness(v["last_s"]),
        v["n"] / _entries(own.past.item)[own.items.user],
        1 / (1 + v["since"]),
        log1p(v["strong"]),
        log1p(v["session"]),
        log1p(ratio),
    )


def _entries(past: I32) -> F32:
    """Entries f32[B] of each history whose item or category is known, at least one."""
    entries: F32 = np.maximum((past >= 0).sum(1), 1).astype(np.float32)
    return entries


def _expected(shared: Sequence[Shared], field: I64, code: I64, category: I32) -> tuple[F32, F32]:
    """As of `Lifts.expected`, each user by the lifts of the own moment."""
    number = {lifts: i for i, lifts in enumerate(dict.fromkeys(moment.lifts for moment in shared))}
    if len(number) == 1:
        return next(iter(number)).expected(field, code, category)
    of_user = np.array([number[moment.lifts] for moment in shared])
    rows = [np.flatnonzero(of_user == i) for i in number.values()]
    parts = [lifts.expected(field, code[:, own], category[own]) for lifts, own in zip(number, rows, strict=True)]
    back = np.argsort(np.concatenate(rows))
    share, above = (np.concatenate(side, axis=1)[:, back] for side in zip(*parts, strict=True))
    return share, above


def _categories(own: Own) -> Sequence[F32]:
    v = own.categories.values
    share = v["n"] / _entries(own.past.category)[own.categories.user]
    return (log1p(v["n"]), log1p(v["d30"]), share, closeness(v["last_s"]))


def _price_distance(users: UserView, seen: Seen, cost: F32) -> F32:
    """How far, as a ratio, candidates cost more or less than what each user usually buys; 0 where that is not known."""
    usual = users.price_mean[:, None]
    known = np.isfinite(cost) & (cost > 0)
    paid = seen.of(np.where(known, cost, np.float32(1)))
    distance = np.abs(np.log(paid / np.where(usual > 0, usual, np.float32(1))))
    return np.where((usual > 0) & seen.of(known), distance, np.float32(0))
