"""Events of a run grouped by the row they belong to."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features.rows import Slots

I64 = NDArray[np.int64]


def sorting(slot: Slots, entry: NDArray[np.void]) -> I64:
    """Order that sorts events by slot, then by their history entry: by key, then by slot, then what is left equal."""
    if len(slot) == 0:
        return np.empty(0, np.int64)
    by_key = np.argsort(entry["key"], kind="stable")
    # Short integers are sorted by radix.
    small = slot.astype(np.uint16) if int(slot.max()) < 1 << 16 else slot
    order = by_key[np.argsort(small[by_key], kind="stable")]
    key, owner = entry["key"][order], slot[order]
    equal = np.zeros(len(order) + 1, np.bool_)
    equal[1:-1] = (key[1:] == key[:-1]) & (owner[1:] == owner[:-1])
    if equal.any():
        tied = np.flatnonzero(equal[1:] | equal[:-1])
        some = order[tied]
        order[tied] = some[np.lexsort((entry["item"][some], entry["key"][some], slot[some]))]
    return order


class Groups(NamedTuple):
    """Events sorted by user: `order` i64[E] sorts them, `group` i64[E] numbers the user, `starts` i64[U] begins it."""

    order: I64
    group: I64
    starts: I64
    slots: Slots

    @property
    def counts(self) -> I64:
        """Events of each user i64[U]."""
        ends = np.empty_like(self.starts)
        ends[:-1], ends[-1:] = self.starts[1:], len(self.group)
        return ends - self.starts

    @classmethod
    def of(cls, order: I64, slot: Slots) -> "Groups":
        """Groups of events that `order` sorts by slot."""
        return cls.sorted(slot[order])._replace(order=order)

    @classmethod
    def sorted(cls, slot: Slots) -> "Groups":
        """Groups of events that lie together already."""
        first = np.empty(len(slot), np.bool_)
        first[:1] = True
        np.not_equal(slot[1:], slot[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        return cls(np.arange(len(slot)), np.cumsum(first) - 1, starts, slot[starts])
