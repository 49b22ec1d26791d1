"""Catalogue items on the wire; a null value takes an item out of the catalogue."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from schemas import faults
from schemas.encoding import to_json
from schemas.events import CONFLUENT_PREFIX_BYTES, Id, Record, Reject, Time
from schemas.faults import MAX_VALUE_BYTES, Reason


class Item(Struct, frozen=True):
    """What the shop says of one item; price is in major units of its currency."""

    item_id: Id
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    currency: str | None = None
    image: str | None = None
    url: str | None = None
    tags: list[str] | None = None
    lang: str | None = None
    in_stock: bool | None = None
    ts_ms: Time | None = None


@dataclass(slots=True)
class ItemRun:
    """What a run of catalogue records came to: the last word on each item, None where it was removed."""

    latest: dict[str, Item | None] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)


def decode_items(
    records: Sequence[Record], *, max_value_bytes: int = MAX_VALUE_BYTES, home: tuple[int, int] | None = None
) -> ItemRun:
    """Decode records of one partition of items.v1, keyed by item id; home = (partition, partition count) is checked."""
    run = ItemRun()
    for index, record in enumerate(records):
        try:
            item_id, item = _read(record, max_value_bytes, home)
            run.latest[item_id] = item
        except _Wrong as wrong:
            run.rejects.append(Reject(index, wrong.reason, wrong.detail))
    return run


def encode_item(item: Item) -> bytes:
    """The catalogue entry as JSON, as it is produced and as Redis keeps it."""
    return to_json(item)


def decode_item(value: bytes) -> Item:
    """A catalogue entry that encode_item wrote."""
    return _decode(value)


class _Wrong(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


_decode = Decoder(Item).decode


def _read(record: Record, max_value_bytes: int, home: tuple[int, int] | None) -> tuple[str, Item | None]:
    key, value = record.key, record.value
    if key is None or value == b"" or len(value or b"") > max_value_bytes:
        raise _Wrong(*faults.unreadable(key, value, max_value_bytes))
    try:
        item = _settled(_decode(value if value[0] else value[CONFLUENT_PREFIX_BYTES:])) if value else None
        item_id = item.item_id if item else key.decode()
    except faults.BROKEN as error:
        raise _Wrong(*faults.explain(error, value or b"")) from error
    _raise_first(faults.bad_ids("item_id", [item_id]))
    _raise_first(faults.bad_keys([key], [item_id]))
    if home is not None:
        _raise_first(faults.misplaced([key], *home))
    return item_id, item


def _settled(item: Item) -> Item:
    item = replace(item, item_id=str(item.item_id))
    if item.ts_ms is None:
        return item
    unit, ts_ms = faults.in_ms(item.ts_ms)
    if not unit:
        reason: Reason = "time"
        raise _Wrong(reason, faults.no_time(item.ts_ms))
    return replace(item, ts_ms=ts_ms)


def _raise_first(found: Iterable[faults.Fault]) -> None:
    for _, reason, detail in found:
        raise _Wrong(reason, detail)
