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
    columns, users, items, rejected = _encoded(events, declaration, zone, tick)
    order = np.argsort(columns.ts_ms, kind="stable")
    user_ids, user = _numbered(users)
    # What nobody did anything with is in the catalogue all the same, and may be proposed: from its time on.
    waiting = {name for name, item in catalogue.items() if "ts_ms" in item} - set(items)
    item_ids, item = _numbered(items, waiting)
    categories, category = _categories(item_ids, catalogue)
    return Recorded(
        columns=columns.take(order),
        user=user[order],
        item=item[order].astype(np.int32),
        user_ids=user_ids,
        item_ids=item_ids,
        codes=np.array([item_code(name) for name in item_ids], np.uint64),
        category=category,
        categories=categories,
        price=np.array([_price(catalogue.get(name, {})) for name in item_ids], np.float32),
        titles=[str(catalogue.get(name, {}).get("title") or "") for name in item_ids],
        listed_ms=np.array([_listed_ms(catalogue.get(name, {})) for name in item_ids], np.int64),
        rejected=rejected,
    )


def _encoded(
    events: Iterable[RawEvent], declaration: Declaration, zone: str, tick: Callable[[int], object]
) -> tuple[Columns, list[str], list[str], int]:
    """(columns, user ids, item ids, records refused), in the order of `events`."""
    encoder = Encoder(declaration, Calendar(zone))
    kinds = frozenset(kind.wire for kind in declaration.kinds)
    parts: list[Columns] = []
    users: list[str] = []
    items: list[str] = []
    rejected = 0
    source = iter(events)
    while records := list(islice(source, RUN)):
        run = decode_run(records, kinds=kinds, now_ms=2**62, max_skew_ms=0, horizon_ms=2**62)
        rejected += len(run.rejects)
        parts.append(encoder.encode(run))
        users.extend(run.users)
        items.extend(run.items)
        tick(len(records))
    columns = (
        Columns(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else encoder.encode(Run())
    )
    return columns, users, items, rejected


def until(recorded: Recorded, end_ms: int) -> Recorded:
    """The events strictly before `end_ms`."""
    end = int(np.searchsorted(recorded.columns.ts_ms, end_ms))
    columns = recorded.columns.take(np.arange(end))
    return replace(recorded, columns=columns, user=recorded.user[:end], item=recorded.item[:end])


def _numbered(names: Sequence[str], others: Collection[str] = ()) -> tuple[list[str], NDArray[np.int64]]:
    distinct = sorted({*names, *others})
    number = {name: i for i, name in enumerate(distinct)}
    return distinct, np.fromiter((number[name] for name in names), np.int64, len(names))


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
