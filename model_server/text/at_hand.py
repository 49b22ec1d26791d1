"""The vectors of the items at hand as a ranker reads them, of a log and of a live store."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from model_server.retrieval.titles import TitleVectors

if TYPE_CHECKING:
    from model_server.items import ItemArrays
    from model_server.retrieval.pairs import F32, I64
    from model_server.scoring import ItemState
    from model_server.text.projection import Projection


class Titles(Protocol):
    """What a ranker knows of the items' titles; `projection` is that of its bundle."""

    @property
    def projection(self) -> Projection: ...

    def at(self, items: ItemState) -> TitleVectors:
        """The vectors of all items at hand."""


class RecordedTitles(NamedTuple):
    """Those of a log: `vectors` of its items, each known from `since_ms` on."""

    projection: Projection
    vectors: TitleVectors

    def at(self, items: ItemState) -> TitleVectors:  # noqa: ARG002
        """The same at any time; who asks looks at `since_ms`."""
        return self.vectors


class _Told(NamedTuple):
    items: ItemArrays
    places: I64
    vectors: F32


class LiveTitles:
    """Those of a live store, filled while it serves: a title is nothing until its vector came.

    `wanted` and `tell` are called by who reads titles, between two calls of `at` or beside them; `at` by the ranker.
    """

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self._vectors = np.zeros((0, projection.width), np.float32)
        self._told: deque[_Told] = deque()
        self._asked_of: ItemState | None = None
        self._shown: ItemState | None = None
        self._seen = 0
        self._waiting: deque[int] = deque()

    def wanted(self, items: ItemArrays, most: int) -> list[int]:
        """At most so many items whose title is new or another one than before; each is told once, by `tell`."""
        if items is not self._asked_of:
            self._asked_of, self._seen = items, 0
            self._waiting.clear()
        if items.catalogue_revision > self._seen:
            self._waiting.extend(np.flatnonzero(items.titled > self._seen).tolist())
            self._seen = items.catalogue_revision
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    @property
    def waiting(self) -> int:
        """How many items wait for their vectors."""
        return len(self._waiting)

    def again(self, index: list[int]) -> None:
        """Ask for these once more, later."""
        self._waiting.extend(index)

    def tell(self, items: ItemArrays, index: list[int], raw: F32) -> None:
        """Raw vectors [N, D] of items; shown by the next `at`."""
        self._told.append(_Told(items, np.array(index, np.int64), self.projection.of(raw)))

    def at(self, items: ItemState) -> TitleVectors:
        """All that was told of these items so far."""
        if items is not self._shown:
            self._shown, self._vectors = items, np.zeros((0, self.projection.width), np.float32)
        count = len(items.codes)
        if count > len(self._vectors):
            grown = np.zeros((2 * count, self.projection.width), np.float32)
            grown[: len(self._vectors)] = self._vectors
            self._vectors = grown
        while self._told:
            told = self._told.popleft()
            if told.items is items:
                self._vectors[told.places] = told.vectors
        return TitleVectors(self._vectors[:count], None)
