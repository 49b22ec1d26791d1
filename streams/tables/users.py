"""The user table: rows of users by input partition, the rows in use held in one slab, and who must be scored again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from schemas.keys import Keys
from streams.features.columns import Columns
from streams.features.declaration import BACKFILL
from streams.features.fold import NO_RESCORE, Folded, fold_users
from streams.features.rows import Layout, RowSlab, Slots
from streams.tables.fenced import FencedTable
from streams.tables.part import Part
from streams.tables.store import Store, UserWrite
from streams.tables.weather import Weather

BACKFILL_AGE_MS = 900_000
"""A user whose newest event is older than this by the wall clock is scored as back-fill, after everybody live."""

CACHE_BYTES = 256 * 1024 * 1024
CLASSES = 4


@dataclass
class UserChange:
    """E events of one chunk: offsets i64[E], whose they are, and what they say; `now_ms` is when they were read.

    `late` is told by the fold: events late by outcome.
    """

    offsets: NDArray[np.int64]
    users: Sequence[str]
    columns: Columns
    now_ms: int
    late: dict[str, int] = field(default_factory=dict)

    def take(self, index: NDArray[np.int64]) -> UserChange:
        """The events at `index`."""
        users = [self.users[i] for i in index.tolist()]
        return UserChange(self.offsets[index], users, self.columns.take(index), self.now_ms)

    def above(self, fence: int) -> UserChange:
        """The events above a fence: all of them, unless the chunk overlaps what is applied already."""
        if len(self.users) == 0 or self.offsets[0] > fence:
            return self
        return self.take(np.flatnonzero(self.offsets > fence))


class UserPart(Part):
    """A partition's fence and the rows of its users that were in use lately; `names` holds each slot's user."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.slab = RowSlab(layout)
        self.names: list[bytes] = []

    def forget(self) -> None:
        super().forget()
        self.drop_rows()

    def drop_rows(self) -> None:
        """Forget the rows, keep the fence."""
        self.slab.clear()
        self.names.clear()


class UserTable(FencedTable[UserPart, UserChange]):
    """Rows of users; `cache_bytes` bounds the rows held, shared out among the partitions in use."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        layout: Layout,
        *,
        writer: str,
        weather: Weather | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(store, keys.user_tag, writer=writer, weather=weather)
        self.layout = layout
        self.late: Counter[str] = Counter()
        self.cache_bytes = cache_bytes
        self._delays_ms = np.array(layout.declaration.delays_ms, np.int64)

    async def folds(self, partition: int, change: UserChange) -> bool:
        """Whether these events can be folded into the stored rows at all; tried on copies."""
        scratch = UserPart(self.layout)
        slots = await self.weather.ride("reading rows", lambda: self._slots(scratch, partition, change.users))
        try:
            fold_users(self.layout, scratch.slab.rows, slots, change.columns)
        except Exception:  # whatever a fold can raise on events that it should have taken
            return False
        return True

    def _new_part(self) -> UserPart:
        return UserPart(self.layout)

    async def _fold(self, part: UserPart, partition: int, change: UserChange, fence: int) -> UserWrite:
        fresh = change.above(fence)
        if len(fresh.users) == 0:
            return UserWrite()
        slots = await self._slots(part, partition, fresh.users)
        folded = fold_users(self.layout, part.slab.rows, slots, fresh.columns)
        change.late = folded.late
        rows = part.slab.rows[folded.touched]
        names = part.names
        users = [names[slot] for slot in folded.touched.tolist()]
        return UserWrite(users, self.layout.pack(rows), self._queue(users, folded, rows["last_ms"], change.now_ms))

    def _applied(self, change: UserChange) -> None:
        self.late.update(change.late)

    async def _slots(self, part: UserPart, partition: int, users: Sequence[str]) -> Slots:
        """Slots of the users' rows, those not held yet read from the store."""
        slab = part.slab
        missing = slab.missing(users)
        if missing and (len(slab) + len(missing)) * self.layout.row_bytes > self._share_bytes():
            part.drop_rows()
            missing = slab.missing(users)
        if missing:
            names = [user.encode() for user in missing]
            slab.add(missing, await self.store.user_rows(self.tag(partition), names))
            part.names += names
            self.stats.rows_read += len(missing)
        return slab.slots(users)

    def _share_bytes(self) -> int:
        return self.cache_bytes // max(1, len(self._parts))

    def _queue(self, users: list[bytes], folded: Folded, last_ms: NDArray[np.int64], now_ms: int) -> list[bytes | int]:
        """(score, user) pairs of those to score again, flat; score = deadline_ms * 4 + class: the class breaks ties."""
        asked = np.flatnonzero(folded.priority != NO_RESCORE)
        urgency = np.where(last_ms[asked] < now_ms - BACKFILL_AGE_MS, BACKFILL, folded.priority[asked])
        scores = (now_ms + self._delays_ms[urgency]) * CLASSES + urgency
        queue: list[bytes | int] = [0] * (2 * len(asked))
        queue[::2] = scores.tolist()
        queue[1::2] = [users[i] for i in asked.tolist()]
        return queue
