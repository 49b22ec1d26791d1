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


class Store(Protocol):
    """A store of record; every method may raise what `streams.tables.weather` calls trouble."""

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        """The meta hash of a tag, empty when there is none."""

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

    async def eviction_policies(self) -> dict[str, str]:
        """The `maxmemory-policy` of every server that keeps the table, by its name; empty when unknown."""
