"""Items that go together: co-visited and following items of each item, and sessions like the user's own (V-SkNN)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from model_server.retrieval.pairs import F32, I32, I64, Pairs, greatest, sorting, summed

U64 = NDArray[np.uint64]

RECENT = 10
"""How many of the user's newest distinct items ask for neighbours."""
NEAREST_SESSIONS = 100


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of M trained items, in their own numbering 0..M-1; arrays only, so that a bundle can hold them.

    codes u64[M]; together, together_weight [M, T] co-visited items, nearest first (-1 none); next, next_weight [M, T]
    items that follow; sessions of items: visit_start i64[M + 1], visit i32 (sessions of each item);
    basket_start i64[S + 1], basket i32 (items of each session); repeat f32[M] share of an item's events that are a
    repeat by the same user.
    """

    codes: U64
    together: I32
    together_weight: F32
    next: I32
    next_weight: F32
    visit_start: I64
    visit: I32
    basket_start: I64
    basket: I32
    repeat: F32

    @classmethod
    def none(cls) -> Neighbours:
        """What is known before any training."""
        nothing, weights = np.empty((0, 1), np.int32), np.empty((0, 1), np.float32)
        return cls(
            codes=np.empty(0, np.uint64),
            together=nothing,
            together_weight=weights,
            next=nothing,
            next_weight=weights,
            visit_start=np.zeros(1, np.int64),
            visit=np.empty(0, np.int32),
            basket_start=np.zeros(1, np.int64),
            basket=np.empty(0, np.int32),
            repeat=np.empty(0, np.float32),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by name, as a bundle stores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Mapped:
    """Neighbours in the numbering of the M items at hand; items the training never saw have none."""

    neighbours: Neighbours
    trained_of: I32
    item_of: I32
    items: int
    _visits: csr_array = field(repr=False)
    _baskets: csr_array = field(repr=False)

    @classmethod
    def of(cls, neighbours: Neighbours, item_of: I32, items: int) -> Mapped:
        """`item_of` i32[trained]: index of each trained item among the `items` at hand, -1 for one that is gone."""
        trained_of = np.full(items, -1, np.int32)
        known = item_of >= 0
        trained_of[item_of[known]] = np.flatnonzero(known)
        trained, sessions = len(neighbours.codes), len(neighbours.basket_start) - 1
        visits = _matrix(neighbours.visit, neighbours.visit_start, (trained, sessions))
        baskets = _matrix(neighbours.basket, neighbours.basket_start, (sessions, trained))
        return cls(neighbours, trained_of, item_of, items, visits, baskets)

    def grown(self, items: int) -> Mapped:
        """The same where untrained items were appended, `items` of all now."""
        more = items - len(self.trained_of)
        return replace(self, trained_of=np.pad(self.trained_of, (0, more), constant_values=-1), items=items)

    def repeat(self, item: I32) -> F32:
        """Repeat share of items of any shape, 0 where untrained and for -1."""
        trained = self._trained(item)
        share = np.zeros(item.shape, np.float32)
        share[trained >= 0] = self.neighbours.repeat[trained[trained >= 0]]
        return share

    def covisited(self, recent: I32) -> tuple[Pairs, Pairs]:
        """(together, next) of the newest distinct items [B, >= 1]: values sum, max, last, and `near` to rank by."""
        trained = self._trained(recent[:, :RECENT])
        known = self.neighbours
        return (
            self._gather(trained, known.together, known.together_weight),
            self._gather(trained, known.next, known.next_weight),
        )

    def _trained(self, recent: I32) -> I32:
        if not len(self.trained_of):
            return np.full(recent.shape, -1, np.int32)
        return np.where(recent >= 0, self.trained_of[recent], np.int32(-1))

    def _gather(self, trained: I32, neighbour: I32, weight: F32) -> Pairs:
        if len(neighbour) == 0:
            return Pairs.none("sum", "max", "last", "near")
        user, place = np.nonzero(trained >= 0)
        asking = trained[user, place]
        found = neighbour[asking]
        row, column = np.nonzero(found >= 0)
        item = self.item_of[found[row, column]]
        if (item < 0).any():
            known = item >= 0
            row, column, item = row[known], column[known], item[known]
        w, place = weight[asking[row], column], place[row]
        return summed(
            user[row],
            item,
            max(self.items, 1),
            {
                "sum": w,
                "last": np.where(place == 0, w, np.float32(0)),
                "near": w / (np.float32(1) + place.astype(np.float32)),
            },
            {"max": w},
        )

    def like_sessions(self, recent: I32) -> Pairs:
        """V-SkNN: items of the sessions most like the newest distinct items, value `score`."""
        trained = self._trained(recent[:, :RECENT])
        if self._visits.nnz == 0:
            return Pairs.none("score")
        known = trained >= 0
        weight = np.broadcast_to((1.0 - np.arange(trained.shape[1]) / RECENT).astype(np.float32), trained.shape)
        starts = np.append(0, np.cumsum(known.sum(1))).astype(np.int32)
        asked = csr_array((weight[known], trained[known], starts), shape=(len(recent), len(self.neighbours.codes)))
        nearest: csr_array = _nearest(asked @ self._visits, NEAREST_SESSIONS)
        scored: csr_array = nearest @ self._baskets
        row = np.repeat(np.arange(scored.shape[0]), np.diff(scored.indptr))
        item = self.item_of[scored.indices]
        known = item >= 0
        row, item = row[known], item[known].astype(np.int64)
        order = sorting(row * max(self.items, 1) + item)
        return Pairs(row[order], item[order], {"score": scored.data[known][order].astype(np.float32)})


def _matrix(column: I32, start: I64, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(column), np.float32), column, start), shape=shape)


def _nearest(alike: csr_array, count: int) -> csr_array:
    """The `count` most alike sessions of each user, the newer (larger) session first at equal likeness."""
    width = np.diff(alike.indptr)
    if len(width) == 0 or int(width.max(initial=0)) <= count:
        return alike
    user = np.repeat(np.arange(alike.shape[0]), width)
    able = greatest(user, alike.indptr, alike.data, count)
    user, data, session = user[able], alike.data[able], alike.indices[able]
    order = np.lexsort((-session, -data, user))
    place = np.arange(len(user)) - np.searchsorted(user, np.arange(alike.shape[0]))[user]
    kept = order[place < count]
    return csr_array((data[kept], (user[kept], session[kept])), shape=alike.shape)
