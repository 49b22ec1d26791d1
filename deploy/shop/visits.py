"""One visit to the simulated shop: looks, clicks, the cart, the till, and now and then a parcel sent back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import msgspec

from deploy.shop import catalogue, people
from deploy.shop.catalogue import CURRENCY, Item, Shelf
from deploy.shop.people import Person
from deploy.shop.scenes import Moment, moment_of
from deploy.shop.taste import wants
from streams.features.declaration import DEFAULT
from streams.logs.logs import LogEvent

RECENT = 12
DAY_MS = 86_400_000
LOOKS_PER_VISIT = 4.0
EVENTS_PER_VISIT = 6.25
"""Measured mean of a visit's events; tests/unit/test_shop.py holds it to within a tenth."""

_encoder = msgspec.json.Encoder()
_STREAMS = {kind.wire: kind.topic for kind in DEFAULT.kinds}


@dataclass
class Shop:
    """The simulated world: everything follows from `seed`; `recent` is what each person looked at last."""

    seed: int
    people: tuple[Person, ...]
    items: tuple[Item, ...]
    shelves: tuple[Shelf, ...]
    recent: dict[str, list[Item]] = field(default_factory=dict)

    @classmethod
    def build(cls, *, users: int, items: int, seed: int) -> Shop:
        """A shop of `users` customers and `items` articles."""
        random = Random(seed)
        goods = catalogue.build(items, random)
        return cls(seed, people.build(users, random), goods, catalogue.shelves(goods))

    def moment(self, person: Person, ts_ms: int, random: Random) -> Moment:
        """The scene the person is in."""
        return moment_of(person, ts_ms, self.seed, random)


def wire_event(
    kind: str, person: Person, item_id: str, ts_ms: int, moment: Moment | None = None, /, **more: object
) -> LogEvent:
    """One wire event; `more` are further fields of the event."""
    body: dict[str, object] = {"user_id": person.user_id, "item_id": item_id, "kind": kind, "ts_ms": ts_ms, **more}
    if moment is not None:
        body["scene"] = msgspec.Raw(moment.wire)
    buffer = bytearray()
    _encoder.encode_into(body, buffer)
    return LogEvent(ts_ms, _STREAMS[kind], person.key, bytes(buffer))


def visit(shop: Shop, person: Person, start_ms: int, random: Random, *, pace: float = 1.0) -> Iterator[LogEvent]:
    """The events of a visit that begins at `start_ms`, in order but for late returns; `pace` scales the gaps."""
    moment = shop.moment(person, start_ms, random)
    wanted = wants(person, moment)
    shelves = range(len(wanted))
    intent = random.choices(shelves, wanted)[0]
    clock_ms = float(start_ms)
    while True:
        category = intent if random.random() < 0.7 else random.choices(shelves, wanted)[0]
        item = _choose(shop, person, category, random)
        for event, spent_ms in _look(person, item, moment, clock_ms, random, pace):
            yield event
            clock_ms += spent_ms * pace
        if random.random() < 1.0 / LOOKS_PER_VISIT:
            return


def _choose(shop: Shop, person: Person, category: int, random: Random) -> Item:
    """An item of the category: now and then one the person already knows, else by popularity."""
    recent = shop.recent.setdefault(person.user_id, [])
    known = [item for item in recent if item.category == category]
    item = random.choice(known) if known and random.random() < 0.35 else shop.shelves[category].draw(random)
    recent.append(item)
    del recent[:-RECENT]
    return item


def _look(
    person: Person, item: Item, moment: Moment, start_ms: float, random: Random, pace: float
) -> Iterator[tuple[LogEvent, float]]:
    """Events of one look at an item with the time spent on each, in ms before `pace`."""
    clock_ms = start_ms

    def spend(mean_s: float) -> float:
        nonlocal clock_ms
        spent_ms = 200.0 + random.expovariate(1.0 / mean_s) * 1000.0
        clock_ms += spent_ms * pace
        return spent_ms

    def seen(kind: str, page: str, mean_s: float, **more: object) -> tuple[LogEvent, float]:
        at_ms = int(clock_ms)
        spent_ms = spend(mean_s)
        event = wire_event(kind, person, item.item_id, at_ms, moment, page=page, dwell_ms=int(spent_ms), **more)
        return event, spent_ms

    yield seen("browse", random.choices(["category", "search", "home"], [0.5, 0.3, 0.2])[0], 6.0)
    if random.random() > 0.45:
        return
    yield seen("click", "item", 25.0)
    if random.random() > 0.45 * person.buys:
        return
    priced: dict[str, object] = {"price": item.price, "currency": CURRENCY}
    yield seen("add-to-cart", "cart", 12.0, **priced)
    if random.random() > 0.55 or not item.in_stock:
        return
    quantity = random.choices([1, 2, 3], [0.8, 0.15, 0.05])[0]
    yield seen("purchase", "checkout", 20.0, quantity=quantity, **priced)
    if random.random() < 0.04:
        back_ms = int(clock_ms + (2 + 8 * random.random()) * DAY_MS)
        yield wire_event("return", person, item.item_id, back_ms, None, quantity=quantity, **priced), 0.0
