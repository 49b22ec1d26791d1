"""All counters of all candidates of a batch, strictly as of the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.counters.items import closeness, item_counters, scene_counters
from model_server.counters.names import counter_names
from model_server.counters.titles import title_counters
from model_server.retrieval.own import Own
from model_server.retrieval.pairs import F32, I32, I64
from model_server.retrieval.titles import is_new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_server.retrieval.retriever import Retrieved
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
        alone = item_counters(self.declaration, view, repeat)
        parts = (
            alone[at],
            scene_counters(self.declaration, view, at, scene),
            _own(found.own, item),
            _categories(found.own, item, category),
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
    at = own.items.find(item)
    known = at < len(own.items.key)
    v = {name: own.items.at(at, name) for name in own.items.values}
    entries = np.maximum((own.past.item >= 0).sum(1), 1)[:, None]
    gap_s = (v["first_s"] - v["last_s"]) / np.maximum(v["n"] - 1, 1)
    ratio = np.where((v["n"] > 1) & (gap_s > 0), np.minimum(v["last_s"] / np.maximum(gap_s, 1), 100), 0)
    parts = (
        np.log1p(v["n"]),
        np.log1p(v["d1"]),
        np.log1p(v["d7"]),
        np.log1p(v["d30"]),
        closeness(np.where(known, v["last_s"], -1)),
        v["n"] / entries,
        np.where(known, 1 / (1 + v["since"]), 0),
        np.log1p(v["strong"]),
        np.log1p(v["session"]),
        np.log1p(ratio),
    )
    return np.stack(parts, axis=2, dtype=np.float32)


def _categories(own: Own, item: I32, category: I32) -> F32:
    of_item = np.where(item >= 0, np.append(category, np.int32(-1))[item], -1).astype(np.int32)
    at = own.categories.find(of_item)
    known = at < len(own.categories.key)
    v = {name: own.categories.at(at, name) for name in own.categories.values}
    entries = np.maximum((own.past.category >= 0).sum(1), 1)[:, None]
    parts = (
        np.log1p(v["n"]),
        np.log1p(v["d30"]),
        v["n"] / entries,
        closeness(np.where(known, v["last_s"], -1)),
    )
    return np.stack(parts, axis=2, dtype=np.float32)


def _together(found: Retrieved, item: I32) -> F32:
    parts: list[F32] = []
    for pairs in (found.together, found.following):
        at = pairs.find(item)
        parts.extend(np.log1p(pairs.at(at, name)) for name in ("sum", "max", "last"))
    parts.append(np.log1p(found.alike.at(found.alike.find(item), "score")))
    return np.stack(parts, axis=2, dtype=np.float32)


def _titles(found: Retrieved, item: I32, view: ItemView, at: I64) -> tuple[F32, ...]:
    """Counters of titles, where they are read."""
    if found.titles is None:
        return ()
    new = is_new(view.totals.sum(1, dtype=np.int64), view.age_ms)[at]
    return (title_counters(found.titles.vectors, found.own.recent, item, new),)


def _prices(users: UserView, item: I32, price: F32) -> F32:
    cost = np.where(item >= 0, np.append(price, np.float32(np.nan))[item], np.float32(np.nan))
    known = np.isfinite(cost) & (cost > 0)
    cost = np.where(known, cost, np.float32(1))
    usual = users.price_mean[:, None]
    both = known & (usual > 0)
    distance = np.abs(np.log(cost / np.where(usual > 0, usual, np.float32(1))))
    return np.stack((np.where(known, np.log1p(cost), 0), np.where(both, distance, 0)), axis=2, dtype=np.float32)
