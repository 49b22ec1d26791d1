"""Seeded traffic of a shop: the reference work of the budgets, and the full life of a shop, as columns and as JSON."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.bench.reference import DEVICES

BROWSE, CLICK, CART, PURCHASE, RETURN, SENT, OPENED, DISMISSED = range(8)
WIRE = ("browse", "click", "add-to-cart", "purchase", "return", "sent", "opened", "dismissed")
SHARES = (0.66, 0.20, 0.05, 0.03, 0.005, 0.03, 0.015, 0.01)
START_MS = 1_760_000_400_000
"""Event time of the first event: a fixed moment in October 2025."""
LENGTH_MS = 2 * 3_600_000
LATE_MS = 120_000

I64 = NDArray[np.int64]


class Traffic(NamedTuple):
    """E events in the order in which they are sent; `scene` indexes `scenes`, which are JSON objects."""

    user: I64
    item: I64
    kind: I64
    ts_ms: I64
    scene: I64
    dwell_ms: I64
    price_minor: I64
    scenes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of events."""
        return len(self.user)

    def keys(self) -> list[bytes]:
        """The Kafka key of each event, which is its user's id."""
        return [b"%d" % user for user in self.user.tolist()]

    def values(self) -> list[bytes]:
        """Each event as JSON, about 125 bytes with the scenes of the reference work."""
        return list(_json(self))

    def head(self, n: int) -> "Traffic":
        """The first `n` events."""
        return self.only(np.arange(self.size) < n)

    def only(self, chosen: NDArray[np.bool_]) -> "Traffic":
        """The chosen events, in order."""
        user, item, kind, ts_ms, scene, dwell_ms, price_minor = (column[chosen] for column in self[:7])
        return Traffic(user, item, kind, ts_ms, scene, dwell_ms, price_minor, self.scenes)


def reference(events: int, *, users: int = 20_000, seed: int = 7) -> Traffic:
    """The reference work: clicks to browses 1:4, one scene field of eight values, 1 % late by up to two minutes."""
    rng = np.random.default_rng(seed)
    kind = np.where(rng.random(events) < 0.2, CLICK, BROWSE).astype(np.int64)
    scenes = tuple(f'{{"device":"{device}"}}' for device in DEVICES)
    return _traffic(rng, events, users, 5_000, kind, rng.integers(0, len(scenes), events), scenes)


def everything(events: int, *, users: int = 20_000, items: int = 5_000, seed: int = 7) -> Traffic:
    """All kinds of events in the shares of a shop, with ten scene fields; a user is mostly in one of 2,000 scenes."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(WIRE), events, p=np.array(SHARES) / sum(SHARES))
    scenes = tuple(_scene(rng) for _ in range(2_000))
    made = _traffic(rng, events, users, items, kind, rng.integers(0, len(scenes), events), scenes)
    home = (made.user * 7919) % len(scenes)
    return made._replace(scene=np.where(rng.random(events) < 0.9, home, made.scene))


def retimed(traffic: Traffic, start_ms: int, length_ms: int) -> Traffic:
    """The same events spread evenly over another stretch of time."""
    return traffic._replace(ts_ms=start_ms + np.arange(traffic.size) * length_ms // max(traffic.size, 1))


def _traffic(
    rng: np.random.Generator, events: int, users: int, items: int, kind: I64, scene: I64, scenes: tuple[str, ...]
) -> Traffic:
    user = 1_000_000 + rng.permutation(users)[_ranks(rng, events, users)]
    item = 10_000 + _ranks(rng, events, items)
    order_ms = START_MS + np.arange(events) * LENGTH_MS // max(events, 1)
    late_ms = np.where(rng.random(events) < 0.01, rng.integers(0, LATE_MS, events), 0)
    dwell_ms = rng.integers(500, 60_000, events)
    price_minor = 100 + item * 7919 % 20_000
    return Traffic(user, item, kind, order_ms - late_ms, scene, dwell_ms, price_minor, scenes)


def _ranks(rng: np.random.Generator, n: int, size: int) -> I64:
    """Draws of ranks 0..size-1 whose frequency falls as 1 / (rank + 3)."""
    weight = 1.0 / (np.arange(size) + 3)
    return np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(n)).clip(0, size - 1)


def _scene(rng: np.random.Generator) -> str:
    def one(*values: str) -> str:
        return values[int(rng.integers(len(values)))]

    region, zone, locale = (
        ("CN-SH", "Asia/Shanghai", "zh-CN"),
        ("DE-BE", "Europe/Berlin", "de-DE"),
        ("US-CA", "America/Los_Angeles", "en-US"),
        ("BR-SP", "America/Sao_Paulo", "pt-BR"),
    )[int(rng.integers(4))]
    return (
        f'{{"device":"{one("phone", "tablet", "desktop")}","os":"{one("ios", "android", "windows", "macos")}",'
        f'"app":"{one("app", "web")}","network":"{one("wifi", "cellular")}","region":"{region}","zone":"{zone}",'
        f'"locale":"{locale}","weather":"{one("clear", "clouds", "rain", "snow")}",'
        f'"temperature_c":{int(rng.integers(-10, 35))},"place":"{one("home", "work", "transit", "store")}"}}'
    )


def _json(traffic: Traffic) -> Iterator[bytes]:
    columns = (traffic.user, traffic.item, traffic.kind, traffic.ts_ms, traffic.scene, traffic.dwell_ms)
    scenes = traffic.scenes
    prices = (traffic.price_minor / 100).tolist()
    for price, user, item, kind, ts_ms, scene, dwell_ms in zip(prices, *(c.tolist() for c in columns), strict=True):
        yield (
            f'{{"user_id":"{user}","item_id":"{item}","kind":"{WIRE[kind]}","ts_ms":{ts_ms},'
            f'"scene":{scenes[scene]},"dwell_ms":{dwell_ms},"price":{price:.2f}}}'
        ).encode()
