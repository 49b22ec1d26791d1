"""Events of a run grouped by the row they belong to."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features.rows import Slots

I64 = NDArray[np.int64]


class Groups(NamedTuple):
    """Events sorted by user: `order` i64[E] sorts them, `group` i64[E] numbers the user, `starts` i64[U] begins it."""

    order: I64
    group: I64
    starts: I64
    slots: Slots

    @classmethod
    def of(cls, order: I64, slot: Slots) -> "Groups":
        """Groups of events that `order` sorts by slot."""
        ordered = slot[order]
        first = np.empty(len(ordered), np.bool_)
        first[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        return cls(order, np.cumsum(first) - 1, starts, ordered[starts])
