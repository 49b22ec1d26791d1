"""All counters of all candidates of a batch, strictly as of the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.counters.items import closeness, item_counters, log1p, scene_counters
from model_server.counters.names import counter_names
from model_server.counters.titles import title_counters
from model_server.retrieval.own import Own
from model_server.retrieval.pairs import F32, I32, I64, Pairs
from model_server.retrieval.titles import is_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_server.retrieval.retriever import Retrieved
    from model_server.retrieval.shared import Shared
    from streams.features.declaration import Declaration
    from streams.features.items import ItemView
    from streams.features.view import UserView


class Counters:
    """Computes f32[B, C, F]; `names` says what each of the F is. A counter never depends on the other candidates."""

    def __init__(self, declaration: Declaration, lists: Sequence[str]) -> None:
        self.declaration = declaration
        self.names = counter_names(declaration, lists)
        self._hour, self._weekday = (declaration.scene_names.index(name) for name in ("hour", "weekday"))

    def __call__(
        self,
        users: UserView,
        scene: NDArray[np.uint8],
        found: Retrieved,
        view: ItemView,
        at: I64,
        repeat: F32,
        category: I32,
        price: F32,
    ) -> F32:
        """Counters of the candidates of B users.

        `view`: R items as of the request, candidate (b, c) is its row at[b, c]; repeat f32[R]; category i32[M]
        and price f32[M] of every item. The counters of padding are 0.
        """
        item = found.candidates.item
        of_item = np.append(category, np.int32(-1))[item]
        alone = item_counters(self.declaration, view, repeat)
        parts = (
            np.take(alone, at, axis=0),
            scene_counters(self.declaration, view, at, scene, *_expected(found.shared, scene, of_item)),
            _own(found.own, item),
            _categories(found.own, of_item),
            _together(found, item),
            _prices(users, item, price),
            *_titles(found, item, view, at),
            found.candidates.near,
            np.broadcast_to(self._request(users, scene, found.own)[:, None], (*item.shape, 9)),
        )
        counters: F32 = np.concatenate(parts, axis=2, dtype=np.float32)
        counters[item < 0] = 0
        return counters

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


def _own(own: Own, item: I32) -> F32:
    v = own.items.values
    gap_s = (v["first_s"] - v["last_s"]) / np.maximum(v["n"] - 1, 1)
    ratio = np.where((v["n"] > 1) & (gap_s > 0), np.minimum(v["last_s"] / np.maximum(gap_s, 1), 100), 0)
    columns = (
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
    return _of_pairs(own.items, item, columns)


def _entries(past: I32) -> F32:
    """Entries f32[B] of each history whose item or category is known, at least one."""
    entries: F32 = np.maximum((past >= 0).sum(1), 1).astype(np.float32)
    return entries


def _of_pairs(pairs: Pairs, column: I32, counters: Sequence[NDArray[np.floating]]) -> F32:
    """Counters f32[G] of the pairs at (user b, column[b, c]), f32[B, C, len(counters)]; 0 where none is known."""
    rows = np.zeros((len(pairs.key) + 1, len(counters)), np.float32)
    for i, counter in enumerate(counters):
        rows[:-1, i] = counter
    found: F32 = np.take(rows, pairs.find(column), axis=0)
    return found


def _expected(shared: Sequence[Shared], scene: NDArray[np.uint8], category: I32) -> tuple[F32, F32]:
    """As of `Lifts.expected`, each user by the lifts of the own moment."""
    number = {lifts: i for i, lifts in enumerate(dict.fromkeys(moment.lifts for moment in shared))}
    if len(number) == 1:
        return next(iter(number)).expected(scene, category)
    of_user = np.array([number[moment.lifts] for moment in shared])
    rows = [np.flatnonzero(of_user == i) for i in number.values()]
    parts = [lifts.expected(scene[own], category[own]) for lifts, own in zip(number, rows, strict=True)]
    back = np.argsort(np.concatenate(rows))
    share, above = (np.concatenate(side)[back] for side in zip(*parts, strict=True))
    return share, above


def _categories(own: Own, of_item: I32) -> F32:
    v = own.categories.values
    share = v["n"] / _entries(own.past.category)[own.categories.user]
    columns = (log1p(v["n"]), log1p(v["d30"]), share, closeness(v["last_s"]))
    return _of_pairs(own.categories, of_item, columns)


def _together(found: Retrieved, item: I32) -> F32:
    both = (
        _of_pairs(pairs, item, [log1p(pairs.values[name]) for name in ("sum", "max", "last")])
        for pairs in (found.together, found.following)
    )
    return np.concatenate((*both, _of_pairs(found.alike, item, [log1p(found.alike.values["score"])])), axis=2)


def _titles(found: Retrieved, item: I32, view: ItemView, at: I64) -> tuple[F32, ...]:
    """Counters of titles, where they are read."""
    if found.titles is None:
        return ()
    new = is_new(view.totals.sum(1, dtype=np.int64), view.age_ms)[at]
    return (title_counters(found.titles.vectors, found.own.recent, item, new),)


def _prices(users: UserView, item: I32, price: F32) -> F32:
    cost = np.append(price, np.float32(np.nan))[item]
    known = np.isfinite(cost) & (cost > 0)
    cost = np.where(known, cost, np.float32(1))
    usual = users.price_mean[:, None]
    both = known & (usual > 0)
    distance = np.abs(np.log(cost / np.where(usual > 0, usual, np.float32(1))))
    return np.stack((np.where(known, np.log1p(cost), 0), np.where(both, distance, 0)), axis=2, dtype=np.float32)
