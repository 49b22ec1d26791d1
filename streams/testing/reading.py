"""What a test reads of the tables: users, items, and who waits to be scored, in words of the declaration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from schemas.items import Item as CatalogueItem
from schemas.items import decode_item
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.columns import item_code
from streams.features.declaration import CLASSES, Declaration
from streams.features.items import ItemLayout, ItemView, item_view
from streams.features.rows import Layout, Rows
from streams.features.view import UserView, user_view
from streams.inspect import facts, word_of
from streams.tables.look import Looked
from streams.tables.memory import MemoryStore, MemoryTag

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOLIDAYS = ("none", "eve", "day", "after")


@dataclass(frozen=True)
class User:
    """A user as of now: `facts` are those of `kairos inspect --json`, `view` is what the model worker reads."""

    facts: dict[str, Any]
    view: UserView

    @property
    def windows(self) -> dict[str, dict[str, int]]:
        """Counts by kind and window."""
        return dict(self.facts["windows"])

    @property
    def totals(self) -> dict[str, int]:
        """Counts by kind over all time."""
        return dict(self.facts["totals"])

    @property
    def session(self) -> dict[str, Any]:
        """Start and last event in ms, number of events, and whether it is open."""
        return dict(self.facts["session"])

    @property
    def history(self) -> list[dict[str, Any]]:
        """Entries, the newest first."""
        return list(self.facts["history"])

    @property
    def scene(self) -> dict[str, str]:
        """Words by scene field."""
        return dict(self.facts["scene"])


@dataclass(frozen=True)
class Item:
    """An item as of now: its catalogue entry, None without one, and what its row counts, zeros without one."""

    entry: CatalogueItem | None
    windows: dict[str, dict[str, int]]
    totals: dict[str, int]
    profiles: dict[str, dict[str, float]]
    view: ItemView


class Affected(NamedTuple):
    """A user who waits to be scored until `deadline_ms`; `priority` is a class of the declaration."""

    deadline_ms: int
    user: str
    priority: str


class Tables:
    """The tables of a namespace in a memory store, over so many partitions of users and of items."""

    def __init__(
        self, store: MemoryStore, keys: Keys, declaration: Declaration, partitions: int, item_partitions: int
    ) -> None:
        self.store, self.keys, self.declaration = store, keys, declaration
        self.partitions, self.item_partitions = partitions, item_partitions
        self.layout, self.item_layout = Layout(declaration), ItemLayout(declaration)

    def user_tags(self) -> list[MemoryTag]:
        """What is kept of users, by partition."""
        return [self.store.tag(self.keys.user_tag(partition)) for partition in range(self.partitions)]

    def item_tags(self) -> list[MemoryTag]:
        """What is kept of items, by partition."""
        return [self.store.tag(self.keys.item_tag(partition)) for partition in range(self.item_partitions)]

    def blobs(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Stored rows of users and of items."""
        users = {name.decode(): row for tag in self.user_tags() for name, row in tag.users.items()}
        return users, {name.decode(): row for tag in self.item_tags() for name, row in tag.items.items()}

    def catalogue(self) -> dict[str, CatalogueItem]:
        """Entries by item."""
        return {name.decode(): decode_item(entry) for tag in self.item_tags() for name, entry in tag.catalogue.items()}

    def user(self, name: str, now_ms: int) -> User | None:
        """A user, None where nothing is known."""
        partition = partition_of(name.encode(), self.partitions)
        tag = self.user_tags()[partition]
        blob = tag.users.get(name.encode())
        if blob is None:
            return None
        looked = Looked(partition, blob, tag.meta, tag.queue.get(name.encode()), None, [])
        known = facts(self.layout, name, looked, self._names(), now_ms)
        return User(known, user_view(self.layout, self.layout.unpack([blob]), now_ms))

    def item(self, name: str, now_ms: int) -> Item | None:
        """An item, None where nothing is known."""
        tag = self.item_tags()[partition_of(name.encode(), self.item_partitions)]
        row, entry = tag.items.get(name.encode()), tag.catalogue.get(name.encode())
        if row is None and entry is None:
            return None
        view = item_view(self.item_layout, self.item_layout.unpack([row]), now_ms)
        kinds = [kind.name for kind in self.declaration.item_kinds]
        windows = [window.name for window in self.declaration.windows]
        return Item(
            entry=None if entry is None else decode_item(entry),
            windows={
                kind: dict(zip(windows, counts, strict=True))
                for kind, counts in zip(kinds, view.windows[0].tolist(), strict=True)
            },
            totals=dict(zip(kinds, view.totals[0].tolist(), strict=True)),
            profiles={name: dict(self._profile(name, weights[0].tolist())) for name, weights in view.profiles.items()},
            view=view,
        )

    def affected(self) -> list[Affected]:
        """Who waits to be scored, in order of deadline."""
        return sorted(
            Affected(score // len(CLASSES), user.decode(), CLASSES[score % len(CLASSES)])
            for tag in self.user_tags()
            for user, score in tag.queue.items()
        )

    def unpacked(self, users: dict[str, bytes], items: dict[str, bytes]) -> tuple[Rows, Rows]:
        """Rows of stored blobs, in their order."""
        return self.layout.unpack(list(users.values())), self.item_layout.unpack(list(items.values()))

    def _names(self) -> dict[int, tuple[str, str]]:
        """Item and title by item code, as `kairos inspect` finds them."""
        titles = {name: "" for tag in self.item_tags() for name in tag.items}
        for tag in self.item_tags():
            titles |= {name: orjson.loads(entry).get("title") or "" for name, entry in tag.catalogue.items()}
        return {item_code(name.decode()): (name.decode(), title) for name, title in titles.items()}

    def _profile(self, name: str, weights: list[float]) -> Iterator[tuple[str, float]]:
        """(word, weight) of the codes of a profile that were seen; code 0 stands for unknown."""
        declared = {field.name: field for field in self.declaration.scene}
        for code, weight in enumerate(weights):
            if not weight or not code:
                continue
            if name in declared:
                yield word_of(declared[name], code), weight
            elif name == "hour":
                yield str(code - 1), weight
            else:
                yield (DAYS if name == "weekday" else HOLIDAYS)[code - 1], weight
