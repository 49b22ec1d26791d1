"""How much oftener what belongs to a category is wanted under each code of the scene than everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.pairs import F32, I32, I64

if TYPE_CHECKING:
    from streams.features.declaration import Declaration

Floats = NDArray[np.floating]

PRIOR = np.float32(5)
"""Events that must be expected under a code for the own ones to weigh as much as what stands above them."""
GRID = np.float32(65_536)


class Lifts:
    """What everybody and each category does under each code, of one moment; the codes of all fields lie in one row.

    Made from profiles f32[M, S], events of each item by code. share f32[S]: share of everybody's events of a known
    code, 0 for the unknown one. category f32[K + 1, S]: the lift of each category, 1 for an unknown code and, in the
    last row, without one. An hour counts with its neighbours.
    """

    def __init__(self, declaration: Declaration, profiles: F32, category: I32, categories: int) -> None:
        names = declaration.profile_names
        ends = np.cumsum([declaration.size_of(name) for name in names]).tolist()
        self._field = {name: slice(first, end) for name, first, end in zip(names, [0, *ends], ends, strict=False)}
        self._first = np.array([0, *ends[:-1]])
        self.share = np.zeros(ends[-1], np.float32)
        self.category = np.ones((categories + 1, ends[-1]), np.float32)
        for name, field in self._field.items():
            known = slice(field.start + 1, field.stop)
            self.share[known], self.category[:-1, known] = _of_field(name, profiles[:, field], category, categories)

    def field(self, name: str) -> slice:
        """Where the codes of a field lie."""
        return self._field[name]

    def expected(self, field: I64, code: I64, category: I32) -> tuple[F32, F32]:
        """(share f32[T, B], lift f32[T, B, C]) under codes i64[T, B] of fields i64[T] of items of categories i32[B, C].

        Fields are places in `Declaration.profile_names`. A category of -1 or newer than this moment counts as none.
        """
        column = self._first[field, None] + code
        row = np.minimum(category.view(np.uint32), len(self.category) - 1).astype(np.int64)
        return self.share[column], np.take(self.category, row * len(self.share) + column[:, :, None])


def lifted(events: Floats, expected: Floats, above: Floats | float) -> Floats:
    """Lift of those who did something `events` times where everybody's share lets expect `expected`.

    Shrunk to `above`, the lift of what they belong to: the mean of a gamma posterior over Poisson counts, as in
    DuMouchel (1999), Bayesian data mining in large frequency tables. Any shapes that go together.
    """
    return np.asarray((events + PRIOR * above) / (expected + PRIOR))


def around(code: I64) -> tuple[I64, I64]:
    """The hours before and after codes of hours, which run 1..24: an hour counts with its two neighbours."""
    return 1 + (code - 2) % 24, 1 + code % 24


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
