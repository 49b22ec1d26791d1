"""The memory twin of the Redis store: same answers, same atomicity, for tests and dry runs without a server."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.features.blobs import unframed
from streams.tables.store import Erasure, ItemWrite, Move, Removed, UserWrite


@dataclass
class MemoryTag:
    """What Redis keeps under one hash tag."""

    meta: dict[bytes, bytes] = field(default_factory=dict)
    users: dict[bytes, bytes] = field(default_factory=dict)
    queue: dict[bytes, int] = field(default_factory=dict)
    leased: dict[bytes, int] = field(default_factory=dict)
    pushes: dict[bytes, bytes] = field(default_factory=dict)
    shadow_pushes: dict[bytes, bytes] = field(default_factory=dict)
    erased: dict[bytes, int] = field(default_factory=dict)
    items: dict[bytes, bytes] = field(default_factory=dict)
    catalogue: dict[bytes, bytes] = field(default_factory=dict)
    touched: list[bytes] = field(default_factory=list)


class MemoryStore:
    """Keeps everything in `tags`; several tables may share one, as several processes share a Redis."""

    def __init__(self, policy: str = "noeviction") -> None:
        self.tags: dict[bytes, MemoryTag] = {}
        self.policy = policy

    def tag(self, tag: bytes) -> MemoryTag:
        """What is kept under a tag, made on first use."""
        return self.tags.setdefault(tag, MemoryTag())

    def snapshot(self) -> dict[bytes, MemoryTag]:
        """A copy of everything kept."""
        return copy.deepcopy(self.tags)

    async def meta(self, tag: bytes) -> dict[bytes, bytes]:
        return dict(self.tag(tag).meta)

    async def standing(self, tag: bytes) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
        return dict(self.tag(tag).meta), dict(self.tag(tag).erased)

    async def set_once(self, tag: bytes, field: str, value: str) -> None:
        self.tag(tag).meta.setdefault(field.encode(), value.encode())

    async def set_note(self, tag: bytes, field: str, value: bytes) -> None:
        self.tag(tag).meta[field.encode()] = value

    async def user_rows(self, tag: bytes, users: Sequence[bytes]) -> list[bytes | None]:
        return [self.tag(tag).users.get(user) for user in users]

    async def item_rows(self, tag: bytes, items: Sequence[bytes]) -> list[bytes | None]:
        return [self.tag(tag).items.get(item) for item in items]

    async def commit(self, tag: bytes, move: Move, write: UserWrite | ItemWrite) -> bool:
        kept = self.tag(tag)
        steps = [(f"o:{topic}".encode(), seen, b"%d" % offset) for topic, seen, offset in move.steps]
        stands = all(kept.meta.get(name) == (None if seen is None else b"%d" % seen) for name, seen, _ in steps)
        if kept.meta.get(b"ver", b"") != move.seen_ver or not stands:
            return False
        if isinstance(write, UserWrite):
            _write_users(kept, write)
        else:
            _write_items(kept, write)
        kept.meta |= {b"ver": move.ver, **{name: offset for name, _, offset in steps}}
        return True

    async def erase(self, tag: bytes, erasure: Erasure) -> Removed | None:
        kept, user = self.tag(tag), erasure.user
        if kept.users.get(user) != erasure.seen:
            return None
        before = kept.erased.get(user)
        kept.erased[user] = max(erasure.erased_ms, before or 0)
        kept.meta[b"ver"] = erasure.ver
        row, logs = kept.users.pop(user, b""), [kept.pushes.pop(user, None), kept.shadow_pushes.pop(user, None)]
        queued, leased = kept.queue.pop(user, None), kept.leased.pop(user, None)
        return Removed(len(row), logs != [None, None], queued is not None, leased is not None, before)

    async def keep_away(self, tag: bytes, ver: bytes, erased: Mapping[bytes, int]) -> None:
        kept = self.tag(tag)
        later = {user: ms for user, ms in erased.items() if ms > kept.erased.get(user, 0)}
        if later:
            kept.erased |= later
            kept.meta[b"ver"] = ver

    async def eviction_policies(self) -> dict[str, str]:
        return {"memory": self.policy}


def _write_users(kept: MemoryTag, write: UserWrite) -> None:
    for user, row, urgency in zip(write.users, unframed(write.rows), write.urgency, strict=True):
        kept.users[user] = row
        if urgency < len(write.scores):
            due = int(write.scores[urgency])
            kept.queue[user] = min(due, kept.queue.get(user, due))


def _write_items(kept: MemoryTag, write: ItemWrite) -> None:
    for item, row in zip(write.items, write.rows, strict=True):
        kept.items[item] = row
    kept.catalogue.update(write.entries)
    for item in write.removed:
        kept.catalogue.pop(item, None)
    if write.touched:
        kept.touched.append(write.touched)
    for name, offset in write.sources.items():
        kept.meta[name] = str(offset).encode()
