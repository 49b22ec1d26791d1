"""What the producers send: seeded events of now, poison in every position, and the catalogue."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import orjson

from schemas.topics import Topics
from streams.testing.poison import LARGE, poison
from tests.faults.plan import Load
from tests.installation import KINDS, SCENES

GOOD, BAD = b"good", b"bad"
TRUTH = "truth"
"""Header by which a record that is read again is known for what it was meant to be."""


class Outgoing(NamedTuple):
    """A record on its way to Kafka."""

    topic: str
    key: bytes | None
    value: bytes | None
    truth: bytes

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [(TRUTH, self.truth)]


class Traffic:
    """Events of users about items, in the order of the seed; times are the caller's."""

    def __init__(self, random: Random, load: Load, topics: Topics) -> None:
        self.random, self.load, self.topics = random, load, topics
        made = poison(topics)
        self._good_elsewhere = made["kind of another topic"]
        self._small = [record for name, record in made.items() if name not in LARGE]
        self._large = [record for name, record in made.items() if name in LARGE]
        self._burst = 0
        self._count = 0

    def record(self, now_ms: int) -> Outgoing:
        """The next record; poison comes alone and in bursts that fill a chunk."""
        random = self.random
        if self._burst or random.random() < self.load.poison:
            self._burst = max(0, self._burst - 1) or (random.choice([3, 40]) if random.random() < 0.02 else 0)
            return self._poison()
        if random.random() < 0.01:
            return self.item(random.randrange(self.load.items), now_ms)
        return self._event(now_ms)

    def catalogue(self, now_ms: int) -> list[Outgoing]:
        """Every item once."""
        return [self.item(number, now_ms) for number in range(self.load.items)]

    def item(self, number: int, now_ms: int) -> Outgoing:
        """A new word on one item of the catalogue."""
        price = round(self.random.uniform(1, 90), 2)
        entry = {"item_id": f"i{number}", "title": f"标题 {number}", "price": price, "in_stock": True, "ts_ms": now_ms}
        return Outgoing(self.topics.items, f"i{number}".encode(), orjson.dumps(entry), GOOD)

    def _poison(self) -> Outgoing:
        """A bad record among good ones of any partition: where most are bad, a breaker opens, as it should."""
        random = self.random
        record = random.choice(self._large if random.random() < 0.01 else self._small)
        user = b"p%d" % random.randrange(10, 100)
        key, value = (None if part is None else part.replace(b"p1", user) for part in (record.key, record.value))
        topic = record.topic if record is self._good_elsewhere else getattr(self.topics, self._word())
        return Outgoing(topic, key, value, BAD)

    def _word(self) -> str:
        return self.random.choices(["clicks", "browses", "orders", "feedback"], [4, 4, 2, 1])[0]

    def _event(self, now_ms: int) -> Outgoing:
        random, load = self.random, self.load
        word = self._word()
        self._count += 1
        event: dict[str, Any] = {
            "user_id": f"u{min(random.randrange(load.users), random.randrange(load.users))}",
            "item_id": f"i{min(random.randrange(load.items), random.randrange(load.items))}",
            "kind": random.choice([kind for kind in KINDS[word] if kind != "opted-out"]),
            "ts_ms": now_ms - random.choice([0, 0, 0, 0, 0, 400_000]),
            "dwell_ms": random.choice([0, 900, 42_000]),
            "scene": random.choice(SCENES),
            "price": random.choice([None, 19.99]),
            "event_id": f"e{self._count}",
        }
        event = {name: value for name, value in event.items() if value is not None}
        return Outgoing(getattr(self.topics, word), str(event["user_id"]).encode(), orjson.dumps(event), GOOD)
