"""The user table: rows of users by input partition, the rows in use held in one slab, and who must be scored again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from schemas.keys import Keys
from streams.features.columns import Columns
from streams.features.declaration import BACKFILL
from streams.features.fold import fold_users
from streams.features.rows import NO_RESCORE, Layout, Slots
from streams.tables.fenced import FencedTable, TableOptions
from streams.tables.part import Part
from streams.tables.store import Store, UserWrite

BACKFILL_AGE_MS = 900_000
"""A user whose newest event is older than this by the wall clock is scored as back-fill, after everybody live."""

CLASSES = 4


@dataclass
class UserChange:
    """E events of one chunk: offsets i64[E], whose they are and what they say; read at `now_ms`.

    `heard_ms`: when the delay of the users begins, see `heard`. `erased` events were left out of it. `late` is told by
    the fold: events late by outcome.
    """

    offsets: NDArray[np.int64]
    users: Sequence[str]
    columns: Columns
    now_ms: int
    heard_ms: int
    erased: int = 0
    late: dict[str, int] = field(default_factory=dict)

    def take(self, index: NDArray[np.int64]) -> UserChange:
        """The events at `index`."""
        users = [self.users[i] for i in index.tolist()]
        return UserChange(self.offsets[index], users, self.columns.take(index), self.now_ms, self.heard_ms, self.erased)

    def above(self, fence: int) -> UserChange:
        """The events above a fence: all of them, unless the chunk overlaps what is applied already."""
        if len(self.users) == 0 or self.offsets[0] > fence:
            return self
        return self.take(np.flatnonzero(self.offsets > fence))

    def without(self, erased: Mapping[str, int]) -> UserChange:
        """The events but for those of erased users up to the time, in ms, that each was erased at."""
        if erased.keys().isdisjoint(self.users):
            return self
        until_ms = np.array([erased.get(user, -1) for user in self.users], np.int64)
        left = self.take(np.flatnonzero(self.columns.ts_ms > until_ms))
        left.erased += len(self.users) - len(left.users)
        return left


def together(changes: Sequence[UserChange]) -> UserChange:
    """Several chunks as one, whose users wait from the moment that the first of them came."""
    return UserChange(
        np.concatenate([change.offsets for change in changes]),
        [user for change in changes for user in change.users],
        Columns._make(map(np.concatenate, zip(*[change.columns for change in changes], strict=True))),
        max(change.now_ms for change in changes),
        min(change.heard_ms for change in changes),
        sum(change.erased for change in changes),
    )


def heard(timestamp_ms: int, now_ms: int) -> int:
    """When a record came, as the queue sees it: Kafka's own time, but at most a second ago."""
    return min(max(timestamp_ms, now_ms - 1000), now_ms) if timestamp_ms >= 0 else now_ms


class UserTable(FencedTable[UserChange]):
    """Rows of users, and the queue of those to score again.

    `late` counts events late by outcome; `results` those left out because their user was "erased" since.

    `queueing` false: rows alone, nobody is put into the queue.
    """

    def __init__(
        self, store: Store, keys: Keys, layout: Layout, *, queueing: bool = True, **options: Unpack[TableOptions]
    ) -> None:
        super().__init__(store, keys.user_tag, layout, **options)
        self.layout = layout
        self.queueing = queueing
        self.late: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self._delays_ms = layout.declaration.delays_ms

    def _above(self, part: Part, change: UserChange, fence: int) -> UserChange:
        change = change.above(fence)
        return change.without(part.erased) if part.erased else change

    def _together(self, changes: Sequence[UserChange]) -> UserChange:
        return changes[0] if len(changes) == 1 else together(changes)

    async def _hold(self, part: Part, partition: int, change: UserChange) -> Slots:
        return await self._held(part, change.users, partial(self.store.user_rows, self.tag(partition)))

    def _fold_held(self, part: Part, change: UserChange, slots: Slots) -> UserWrite:
        if len(change.users) == 0:
            return UserWrite()
        names, rows = part.cache.names, part.cache.rows
        folded = fold_users(self.layout, rows, slots, change.columns)
        change.late = folded.late
        return UserWrite(
            users=[names[slot] for slot in folded.touched.tolist()],
            rows=self.layout.framed(rows, folded.touched),
            urgency=_urgency(folded.priority, rows["last_ms"][folded.touched], change.now_ms).tobytes(),
            scores=self._scores(change) if self.queueing else (),
        )

    def _scores(self, change: UserChange) -> list[bytes]:
        """The score of each class: deadline_ms * 4 + class, which breaks ties."""
        return [b"%d" % ((change.heard_ms + delay) * CLASSES + i) for i, delay in enumerate(self._delays_ms)]

    def _applied(self, change: UserChange) -> None:
        self.late.update(change.late)
        if change.erased:
            self.results["erased"] += change.erased


def _urgency(priority: NDArray[np.uint8], last_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.uint8]:
    """Class of each user to score again, NO_RESCORE for the others."""
    late = (last_ms < now_ms - BACKFILL_AGE_MS) & (priority != NO_RESCORE)
    return np.where(late, np.uint8(BACKFILL), priority)
