"""What a fenced table asks of the place that keeps it; RedisStore and MemoryStore answer alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Step(NamedTuple):
    """What a move does to one topic: from `seen_offset`, None when there was none, to `offset`."""

    topic: str
    seen_offset: int | None
    offset: int


class Move(NamedTuple):
    """One move of a fence from `seen_ver`, empty when there was none, to `ver`, with the offsets of all its topics."""

    seen_ver: bytes
    ver: bytes
    steps: Sequence[Step]


class UserWrite(NamedTuple):
    """Rows of users in one partition, as `Layout.framed` makes them, and who of them is queued with which score.

    `urgency` holds one byte for each user, the position of the score in `scores` or, at their end, for none.
    """

    users: Sequence[bytes] = ()
    rows: bytes = b""
    urgency: bytes = b""
    scores: Sequence[bytes] = ()


class ItemWrite(NamedTuple):
    """Rows of items in one partition, catalogue changes, the touched ids as JSON, and source offsets by field."""

    items: Sequence[bytes] = ()
    rows: Sequence[bytes] = ()
    entries: Mapping[bytes, bytes] = {}
    removed: Sequence[bytes] = ()
    touched: bytes = b""
    sources: Mapping[bytes, int] = {}


class Erasure(NamedTuple):
    """Everything of one user goes, and so do events up to `erased_ms` whenever they are folded.

    `ver` is new, so that whoever holds the user's row loses the next compare-and-set. `seen` is the row as it was read,
    None for none: one that has changed meanwhile may hold events that are later than `erased_ms`.
    """

    user: bytes
    erased_ms: int
    ver: bytes
    seen: bytes | None


class Removed(NamedTuple):
    """What an erasure found: bytes of the row, whether there were a push log, a queue entry and a lease.

    `erased_ms`: the tombstone that lay there before, None where there was none.
    """

    row_bytes: int
    pushes: bool
    queued: bool
    leased: bool
    erased_ms: int | None


class Store(Protocol):
    """A store of record; every method may raise what `streams.tables.weather` calls trouble."""

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        """The meta hash of a tag, empty when there is none."""

    async def standing(self, tag: bytes) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
        """The meta hash of a tag, and the tombstones that lie there: at least all those that its `ver` knows of."""

    async def set_once(self, tag: bytes, field: str, value: str) -> None:
        """Set a field of the meta hash unless it is set already."""

    async def set_note(self, tag: bytes, field: str, value: bytes) -> None:
        """Set a field of the meta hash that no fence depends on."""

    async def user_rows(self, tag: bytes, users: Sequence[bytes]) -> list[bytes | None]:
        """Rows of users, None where there is none."""

    async def item_rows(self, tag: bytes, items: Sequence[bytes]) -> list[bytes | None]:
        """Rows of items, None where there is none."""

    async def commit(self, tag: bytes, move: Move, write: UserWrite | ItemWrite) -> bool:
        """Write and move the fence in one atomic step; False when it does not stand where `move` saw it."""

    async def erase(self, tag: bytes, erasure: Erasure) -> Removed | None:
        """Remove a user and lay the tombstone in one atomic step; None, and nothing done, when the row has changed."""

    async def keep_away(self, tag: bytes, ver: bytes, erased: Mapping[bytes, int]) -> None:
        """Lay tombstones of users who have no row here, under a new `ver`; the later of two counts."""

    async def eviction_policies(self) -> dict[str, str]:
        """The `maxmemory-policy` of every server that keeps the table, by its name; empty when unknown."""
