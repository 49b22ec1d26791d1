"""A whole log as columns: every event in time order, users and items numbered in the order of their ids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.events import Run, decode_run
from streams.features.calendar import Calendar
from streams.features.columns import Columns, Encoder, item_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.features.declaration import Declaration

RUN = 4_000
NEVER_MS = 2**62


class RawEvent(NamedTuple):
    """What training needs of a record: key, value, and the stream it came by (clicks, browses, orders, feedback)."""

    stream: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Recorded:
    """E events in time order; user i64[E] and item i32[E] number `user_ids` and `item_ids`.

    codes u64[M] of the items; category i32[M] (-1 unknown) numbers `categories`; price f32[M] (NaN unknown); listed_ms
    i64[M] when the catalogue says that the item came into it (a moment beyond all where it does not say).
    """

    columns: Columns
    user: NDArray[np.int64]
    item: NDArray[np.int32]
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    codes: NDArray[np.uint64]
    category: NDArray[np.int32]
    categories: Sequence[str]
    price: NDArray[np.float32]
    titles: Sequence[str]
    listed_ms: NDArray[np.int64]
    rejected: int

    def __len__(self) -> int:
        return len(self.user)

    @property
    def known_ms(self) -> NDArray[np.int64]:
        """i64[M]: when each item was first heard of, by an event or by the catalogue."""
        first = self.listed_ms.copy()
        np.minimum.at(first, self.item, self.columns.ts_ms)
        return first


def record(
    events: Iterable[RawEvent],
    catalogue: Mapping[str, Mapping[str, Any]],
    declaration: Declaration,
    zone: str,
    tick: Callable[[int], object] = lambda _: None,
) -> Recorded:
    """Decode and encode `events` (any order) as the stream worker would; `catalogue`: item id -> wire item."""
    return together([encode(events, declaration, zone, tick)], catalogue)


class Part(NamedTuple):
    """Some events of a log, encoded: user i32[E] and item i32[E] number `user_ids` and `item_ids` of this part."""

    columns: Columns
    user: NDArray[np.int32]
    user_ids: Sequence[str]
    item: NDArray[np.int32]
    item_ids: Sequence[str]
    rejected: int = 0

    def without(self, erased: Mapping[str, int]) -> Part:
        """The part without what people did up to the moment at which they were erased: user id -> epoch ms."""
        until_ms = np.array([erased.get(name, -NEVER_MS) for name in self.user_ids], np.int64)
        kept = np.flatnonzero(self.columns.ts_ms > until_ms[self.user])
        if len(kept) == len(self.user):
            return self
        return self._replace(columns=self.columns.take(kept), user=self.user[kept], item=self.item[kept])


class _Numbers(dict[str, int]):
    """Names numbered as they come."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        return number


def encode(
    events: Iterable[RawEvent],
    declaration: Declaration,
    zone: str,
    tick: Callable[[int], object] = lambda _: None,
) -> Part:
    """Decode and encode `events` as the stream worker would, in their order; `tick` hears how many more are done."""
    encoder = Encoder(declaration, Calendar(zone))
    kinds = frozenset(kind.wire for kind in declaration.kinds)
    users, items = _Numbers(), _Numbers()
    columns: list[Columns] = [encoder.encode(Run())]
    user: list[NDArray[np.int32]] = []
    item: list[NDArray[np.int32]] = []
    rejected = 0
    source = iter(events)
    while records := list(islice(source, RUN)):
        run = decode_run(records, kinds=kinds, now_ms=2**62, max_skew_ms=0, horizon_ms=2**62)
        rejected += len(run.rejects)
        columns.append(encoder.encode(run))
        user.append(np.fromiter(map(users.__getitem__, run.users), np.int32, len(run.users)))
        item.append(np.fromiter(map(items.__getitem__, run.items), np.int32, len(run.items)))
        tick(len(records))
    return Part(_joined(columns), _flat(user), [*users], _flat(item), [*items], rejected)


def together(parts: Sequence[Part], catalogue: Mapping[str, Mapping[str, Any]]) -> Recorded:
    """One log of parts (at least one); what happened at one moment stays in their order."""
    columns = _joined([part.columns for part in parts])
    order = np.argsort(columns.ts_ms, kind="stable")
    user_ids, user = _numbered([(part.user_ids, part.user) for part in parts])
    # What nobody did anything with is in the catalogue all the same, and may be proposed: from its time on.
    waiting = [name for name, item in catalogue.items() if "ts_ms" in item]
    item_ids, item = _numbered([(part.item_ids, part.item) for part in parts], waiting)
    categories, category = _categories(item_ids, catalogue)
    return Recorded(
        columns=columns.take(order),
        user=user[order].astype(np.int64),
        item=item[order],
        user_ids=user_ids,
        item_ids=item_ids,
        codes=np.array([item_code(name) for name in item_ids], np.uint64),
        category=category,
        categories=categories,
        price=np.array([_price(catalogue.get(name, {})) for name in item_ids], np.float32),
        titles=[str(catalogue.get(name, {}).get("title") or "") for name in item_ids],
        listed_ms=np.array([_listed_ms(catalogue.get(name, {})) for name in item_ids], np.int64),
        rejected=sum(part.rejected for part in parts),
    )


def _joined(parts: Sequence[Columns]) -> Columns:
    return Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _flat(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def until(recorded: Recorded, end_ms: int) -> Recorded:
    """The events strictly before `end_ms`."""
    end = int(np.searchsorted(recorded.columns.ts_ms, end_ms))
    columns = recorded.columns.take(np.arange(end))
    return replace(recorded, columns=columns, user=recorded.user[:end], item=recorded.item[:end])


def _numbered(
    parts: Sequence[tuple[Sequence[str], NDArray[np.int32]]], others: Collection[str] = ()
) -> tuple[list[str], NDArray[np.int32]]:
    """(names that occur in a part, and others, in order; the number of each event's name among them)."""
    used = [[names[number] for number in np.unique(numbers).tolist()] for names, numbers in parts]
    distinct = sorted({*others}.union(*used))
    place = {name: number for number, name in enumerate(distinct)}
    found = [
        np.array([place.get(name, -1) for name in names], np.int32)[numbers] if len(numbers) else numbers
        for names, numbers in parts
    ]
    return distinct, _flat(found)


def _categories(
    item_ids: Sequence[str], catalogue: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], NDArray[np.int32]]:
    of_item = [str(catalogue.get(name, {}).get("category") or "") for name in item_ids]
    names = sorted(set(of_item) - {""})
    number = {name: i for i, name in enumerate(names)}
    return names, np.array([number.get(name, -1) for name in of_item], np.int32)


def _listed_ms(item: Mapping[str, Any]) -> int:
    ts_ms = item.get("ts_ms")
    return int(ts_ms) if isinstance(ts_ms, int | float) else NEVER_MS


def _price(item: Mapping[str, Any]) -> float:
    price = item.get("price")
    return float(price) if isinstance(price, int | float) else float("nan")
