"""How much oftener what belongs to a category is wanted under each code of the scene than everything is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.pairs import F32, I32

if TYPE_CHECKING:
    from streams.features.declaration import Declaration

Floats = NDArray[np.floating]
Profiles = Mapping[str, F32]
"""Events of each item by code of a scene field: field -> f32[M, codes]."""

PRIOR = np.float32(5)
"""Events that must be expected under a code for the own ones to weigh as much as what stands above them."""
GRID = np.float32(65_536)


class Lifts:
    """What everybody and each category does under each code, of one moment; the codes of all fields lie in one row.

    share f32[S]: share of everybody's events of a known code, 0 for the unknown one. category f32[K + 1, S]: the lift
    of each category, 1 for an unknown code and, in the last row, without one. An hour counts with its neighbours.
    """

    def __init__(self, declaration: Declaration, profiles: Profiles, category: I32, categories: int) -> None:
        sizes = [declaration.size_of(name) for name in declaration.profile_names]
        self._first = np.cumsum([0, *sizes[:-1]])
        self._columns = [declaration.scene_names.index(name) for name in declaration.profile_names]
        self.share = np.zeros(sum(sizes), np.float32)
        self.category = np.ones((categories + 1, sum(sizes)), np.float32)
        for name, first, size in zip(declaration.profile_names, self._first.tolist(), sizes, strict=True):
            if name in profiles:
                known = slice(first + 1, first + size)
                self.share[known], self.category[:-1, known] = _of_field(name, profiles[name], category, categories)

    def expected(self, scene: NDArray[np.uint8], category: I32) -> tuple[F32, F32]:
        """(share f32[B, P], lift f32[B, C, P]) under scenes u8[B, S] of items of the categories i32[B, C], -1 for none.

        P runs over `Declaration.profile_names`. A category that is newer than this moment counts as none.
        """
        column = self._first + scene[:, self._columns]
        none = len(self.category) - 1
        row = np.where((category < 0) | (category > none), none, category)
        return self.share[column], self.category[row[:, :, None], column[:, None, :]]


def lifted(events: Floats, expected: Floats, above: Floats | float) -> Floats:
    """Lift of those who did something `events` times where everybody's share lets expect `expected`.

    Shrunk to `above`, the lift of what they belong to: the mean of a gamma posterior over Poisson counts, as in
    DuMouchel (1999), Bayesian data mining in large frequency tables. Any shapes that go together.
    """
    return np.asarray((events + PRIOR * above) / (expected + PRIOR))


def near(name: str, profile: F32, code: NDArray[np.int64], rows: NDArray[np.int64]) -> F32:
    """Events under the codes of the rows: an hour counts with its two neighbours; codes of hours run 1..24."""
    events: F32 = profile[rows, code]
    if name == "hour":
        before, after = 1 + (code - 2) % 24, 1 + code % 24
        events = events + profile[rows, before] + profile[rows, after]
    return events


def _of_field(name: str, profile: F32, category: I32, categories: int) -> tuple[F32, F32]:
    """(everybody's share f32[codes - 1], lift of each category f32[categories, codes - 1]) of the known codes."""
    events = _summed(profile, np.where(category < 0, categories, category)[: len(profile)], categories + 1)[:, 1:]
    total = events.sum(1)
    if name == "hour":
        events = events + np.roll(events, 1, axis=1) + np.roll(events, -1, axis=1)
    share = events.sum(0) / max(total.sum(), 1.0)
    return share.astype(np.float32), lifted(events[:-1], total[:-1, None] * share, 1.0).astype(np.float32)


def _summed(profile: F32, group: NDArray[np.integer], groups: int) -> NDArray[np.float64]:
    """Events f64[groups, codes], the same whatever order the items stand in.

    Counts that fade are rounded to a grid on which their sum in float64 is exact.
    """
    sums = [np.bincount(group, np.rint(column * GRID), groups) for column in profile.T]
    return np.stack(sums, axis=1) / float(GRID)
