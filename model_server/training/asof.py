"""Replays a log through `streams.features` and prepares requests strictly as of their own moments, many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.counters.batch import CountedBatch
from model_server.counters.items import Seen
from model_server.item_sums import ItemSums
from model_server.preparation import Freshness, Look, Preparation
from model_server.retrieval.merge import Candidates
from model_server.retrieval.pairs import I32, I64
from model_server.training.item_rows import ItemRows
from model_server.training.neighbours import NeighbourLimits, build_neighbours
from streams.features.fold import fold_users
from streams.features.rows import Layout, Rows
from streams.features.view import UserView, user_view

if TYPE_CHECKING:
    from model_server.counters.numbered import Numbered
    from model_server.retrieval.neighbours import Neighbours
    from model_server.retrieval.retriever import Retrieved
    from model_server.retrieval.shared import Shared
    from model_server.training.recorded import Recorded
    from model_server.training.requests import Moments
    from streams.features.declaration import Declaration


class Journal:
    """Item rows as they were before the folds between the requests of one batch, so that each request sees its own."""

    def __init__(self) -> None:
        self._items: list[I64] = []
        self._stamps: list[I64] = []
        self._rows: list[Rows] = []

    def note(self, items: I64, rows: Rows, requests: int) -> None:
        """Keep copies of `rows` at `items`, about to change after `requests` requests of the batch were taken."""
        self._items.append(items)
        self._stamps.append(np.full(len(items), requests))
        self._rows.append(rows[items])

    def older(self, item: I32) -> tuple[I64, Rows | None]:
        """Flat places of items i32[B, C] that changed after request b had seen them, and their rows before that."""
        if not self._items:
            return np.empty(0, np.int64), None
        wanted, users = item.reshape(-1), len(item)
        request = np.repeat(np.arange(users), item.shape[1])
        key = np.concatenate(self._items) * (users + 1) + np.concatenate(self._stamps)
        order = np.argsort(key, kind="stable")
        key = key[order]
        # The first copy made after the request was taken is what the request saw.
        at = np.searchsorted(key, wanted.astype(np.int64) * (users + 1) + request, side="right")
        older = np.flatnonzero((at < len(key)) & (key[np.minimum(at, len(key) - 1)] // (users + 1) == wanted))
        return older, np.concatenate(self._rows)[order[at[older]]]


class Taken(NamedTuple):
    """What is put aside at the moment of a request."""

    rows: Rows
    scene: NDArray[np.uint8]
    now_ms: int
    shared: Shared


class Found(NamedTuple):
    """The batch taken last, before it was counted."""

    view: UserView
    scene: NDArray[np.uint8]
    retrieved: Retrieved
    look: Look


class Replay:
    """Walks the log once; `take` may only be asked for moments in time order.

    `neighbours_every_ms`: how often co-visited items are built anew, as an incremental training would.
    """

    def __init__(
        self,
        recorded: Recorded,
        declaration: Declaration,
        preparation: Preparation,
        *,
        neighbours_every_ms: int,
        refresh_ms: int,
        profiles_ms: int = 1_800_000,
    ) -> None:
        self.recorded = recorded
        self.preparation = preparation
        self.layout = Layout(declaration)
        self.users = self.layout.empty(len(recorded.user_ids))
        self.items = ItemRows(recorded, declaration)
        self._declaration = declaration
        self._every_ms = neighbours_every_ms
        self._built_ms = -(2**62)
        self._next = 0
        self._freshness = Freshness(declaration, refresh_ms, profiles_ms)
        self._journal = Journal()
        self._found: Found | None = None

    def take(
        self, moments: Moments, requests: NDArray[np.int64], scenes: NDArray[np.uint8] | None = None
    ) -> CountedBatch:
        """Prepare `requests` (positions in `moments`, ascending) as one batch; `scenes` u8[B, S] replace their own."""
        self._renew_neighbours(int(moments.ts_ms[requests[0]]))
        self._journal = Journal()
        taken: list[Taken] = []
        for request in requests.tolist():
            now_ms = int(moments.ts_ms[request])
            self.fold_before(now_ms, len(taken))
            taken.append(self._put_aside(moments, request, now_ms))
        own = np.stack([t.scene for t in taken])
        return self._prepare(taken, own if scenes is None else scenes)

    def recount(self, candidates: Candidates, scene: NDArray[np.uint8]) -> CountedBatch:
        """The batch taken last with other candidates and under another scene u8[B, S], counted as of the same moments.

        Where a candidate stands in the lists is told by `candidates`.
        """
        if self._found is None:
            message = "recount comes after take"
            raise RuntimeError(message)
        view, _, retrieved, look = self._found
        return self.preparation.batch(view, scene, self.items, retrieved._replace(candidates=candidates), look)

    def _put_aside(self, moments: Moments, request: int, now_ms: int) -> Taken:
        rows = self.users[moments.user[request] : moments.user[request] + 1].copy()
        moment = self.recorded.columns.codes[moments.event[request], -3:]
        scene = np.concatenate((rows["scene"][0], moment))
        return Taken(rows, scene, now_ms, self._freshness.at(self.items, now_ms))

    def _prepare(self, taken: list[Taken], scene: NDArray[np.uint8]) -> CountedBatch:
        now_ms = np.array([t.now_ms for t in taken])
        view = user_view(self.layout, np.concatenate([t.rows for t in taken]), now_ms)
        found = self.preparation.find(view, scene, now_ms, self.items, [t.shared for t in taken])

        journal = self._journal

        def look(candidates: Numbered) -> Seen:
            item, count = candidates.column, len(candidates.distinct)
            older, rows = journal.older(item)
            sums, row = self.items.sums.at(candidates.distinct), np.minimum(candidates.number, count - 1).reshape(-1)
            if rows is not None:
                sums, row[older] = sums.joined(ItemSums.of(self.items.layout, rows)), count + np.arange(len(older))
            view, each = np.arange(item.size), np.repeat(now_ms, item.shape[1])
            return Seen(sums, row, item.reshape(-1), each, view.reshape(item.shape))

        self._found = Found(view, scene, found, look)
        return self.preparation.batch(view, scene, self.items, found, look)

    def fold_before(self, now_ms: int, taken: int = 0) -> None:
        """Fold every event strictly before `now_ms`; `taken` requests of the running batch must not see them."""
        columns = self.recorded.columns
        end = int(np.searchsorted(columns.ts_ms, now_ms))
        start, self._next = self._next, max(end, self._next)
        if end <= start:
            return
        part = columns.take(np.arange(start, end))
        item = self.recorded.item[start:end]
        if taken:
            self._journal.note(np.unique(item).astype(np.int64), self.items.rows, taken)
        fold_users(self.layout, self.users, self.recorded.user[start:end], part)
        self.items.fold(item, part.ts_ms, part.kind, part.codes)

    def _renew_neighbours(self, now_ms: int) -> None:
        if now_ms - self._built_ms >= self._every_ms:
            self._built_ms = now_ms
            end = int(np.searchsorted(self.recorded.columns.ts_ms, now_ms))
            self.preparation.renew(neighbours_before(self.recorded, self._declaration, end))


def neighbours_before(recorded: Recorded, declaration: Declaration, end: int) -> Neighbours:
    """Neighbours from the first `end` events of the log."""
    done = np.array([kind.active and kind.item for kind in declaration.kinds])[recorded.columns.kind[:end]]
    seen = np.flatnonzero(done)
    limits = NeighbourLimits(gap_ms=declaration.session_gap_ms)
    return build_neighbours(
        recorded.codes, recorded.columns.ts_ms[seen], recorded.user[seen], recorded.item[seen], limits
    )
