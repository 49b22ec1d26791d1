"""What people of the simulated shop do with a push: sent, delivered, and opened the likelier the better it fits."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from deploy.shop.catalogue import Item
from deploy.shop.people import Person
from deploy.shop.taste import open_probability
from deploy.shop.visits import Shop, visit, wire_event
from streams.logs.logs import LogEvent

DELIVERED, TOKEN_DEAD, DISMISSED, OPTED_OUT, CONVERTED = 0.97, 0.1, 0.4, 0.004, 0.12


def react(
    shop: Shop, person: Person, item: Item, now_ms: int, random: Random, *, pace: float = 1.0
) -> Iterator[LogEvent]:
    """Feedback on a push handed over at `now_ms`, and the visit an opened one leads to; `pace` scales the waiting."""
    yield wire_event("sent", person, item.item_id, now_ms)
    if random.random() > DELIVERED:
        if random.random() < TOKEN_DEAD:
            yield wire_event("token-dead", person, item.item_id, now_ms + 200)
        return
    delivered_ms = now_ms + 150 + int(random.expovariate(1.0 / 300.0))
    yield wire_event("delivered", person, item.item_id, delivered_ms)
    moment = shop.moment(person, now_ms, random)
    noticed_ms = delivered_ms + int((1_000 + random.expovariate(1.0 / 30_000.0)) * pace)
    if random.random() < open_probability(person, moment, item):
        yield wire_event("opened", person, item.item_id, noticed_ms, moment, page="push")
        yield from visit(shop, person, noticed_ms + int(1_000 * pace), random, pace=pace)
        if random.random() < CONVERTED:
            yield wire_event("converted", person, item.item_id, noticed_ms + int(60_000 * pace))
    elif random.random() < DISMISSED:
        yield wire_event("dismissed", person, item.item_id, noticed_ms)
    if random.random() < OPTED_OUT:
        yield wire_event("opted-out", person, "-", noticed_ms + 100)
