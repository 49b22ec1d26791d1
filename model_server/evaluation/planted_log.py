"""The log of a planted shop: visits at busy hours, each a look at the front page and some clicks drawn by chance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import orjson

from model_server.evaluation.planted import (
    DEVICES,
    NETWORK_SHARES,
    NETWORKS,
    WEATHER_SHARES,
    WEATHERS,
    ZONES,
    code_of,
)
from model_server.training.recorded import RawEvent, Recorded, record

if TYPE_CHECKING:
    from model_server.evaluation.planted import World
    from streams.features.declaration import Declaration

BEGIN = datetime(2026, 1, 5)  # noqa: DTZ001 - a wall time, the same everywhere
BUSY = np.array((3, 2, 1, 1, 1, 2, 5, 8, 9, 8, 7, 7, 9, 7, 6, 6, 7, 8, 9, 11, 13, 14, 11, 6))
"""How busy each local hour is."""
MORE_CLICKS, MOST_CLICKS = 2.0, 12
PAUSE_S, LONGEST_S = 40.0, 100.0
APART = timedelta(hours=1)
"""Visits of a user begin so far apart: what was seen within half an hour was seen in the same visit."""
SPELL_H = 6
"""Weather holds for six hours in a zone."""


def user_id(number: int) -> str:
    """The id of a user; ids sort as numbers do."""
    return f"u{number:06d}"


def item_id(number: int) -> str:
    """The id of an item."""
    return f"i{number:06d}"


def log(world: World, declaration: Declaration) -> Recorded:
    """Everything that happens in the shop, as a training reads it. Deterministic under the world's seed."""
    return record(events(world, declaration), catalogue(world), declaration, "UTC")


def catalogue(world: World) -> dict[str, dict[str, Any]]:
    """The wire items: category and price, no title, so that texts tell nothing."""
    price = np.random.default_rng((world.seed, 2)).lognormal(3.0, 0.7, len(world.category))
    return {
        item_id(item): {"category": f"category {category}", "price": round(float(price[item]), 2)}
        for item, category in enumerate(world.category.tolist())
    }


def events(world: World, declaration: Declaration) -> Iterator[RawEvent]:
    """The events of every user, user by user.

    A visit begins with a look at an item of the front page, drawn by appeal alone, which tells the scene; its clicks
    are drawn by `World.chance`, none of an item that the visit has seen: a look again within half an hour is no news.
    """
    weather = _weather(world)
    for user in range(len(world.taste)):
        rng = np.random.default_rng((world.seed, 3, user))
        zone = ZoneInfo(ZONES[world.zone[user]])
        for start in _visits(world, user, rng):
            spell = ((start - BEGIN) // timedelta(hours=SPELL_H), world.zone[user])
            told = {
                "device": str(rng.choice(DEVICES, p=world.devices[user])),
                "weather": str(weather[spell]),
                "network": str(rng.choice(NETWORKS, p=NETWORK_SHARES)),
                "zone": zone.key,
            }
            yield from _visit(world, declaration, user, start.replace(tzinfo=zone), told, rng)


def _weather(world: World) -> np.ndarray:
    """The weather of each spell and zone."""
    spells = world.planting.days * 24 // SPELL_H + 1
    return np.random.default_rng((world.seed, 1)).choice(WEATHERS, (spells, len(ZONES)), p=WEATHER_SHARES)


def _visits(world: World, user: int, rng: np.random.Generator) -> Iterator[datetime]:
    """Wall times at which the user's visits begin, in order."""
    count = rng.poisson(world.visits[user] * world.planting.days)
    day, hour = rng.integers(0, world.planting.days, count), rng.choice(24, count, p=BUSY / BUSY.sum())
    seconds = np.sort(day * 86_400 + hour * 3_600 + rng.integers(0, 3_600, count))
    last = BEGIN - APART
    for second in seconds.tolist():
        start = BEGIN + timedelta(seconds=second)
        if start - last >= APART:
            last = start
            yield start


def _visit(
    world: World, declaration: Declaration, user: int, start: datetime, told: dict[str, str], rng: np.random.Generator
) -> Iterator[RawEvent]:
    scene = np.zeros((1, len(world.names)), np.uint8)
    for field in ("device", "weather", "network"):
        scene[0, world.names.index(field)] = code_of(declaration, field, told[field])
    hour = world.names.index("hour")
    seen = [int(rng.choice(len(world.appeal), p=world.appeal / world.appeal.sum()))]
    now = start
    yield _event("browse", user, seen[0], now, told)
    for _ in range(1 + min(int(rng.poisson(MORE_CLICKS)), MOST_CLICKS - 1)):
        now = now + timedelta(seconds=5.0 + min(rng.exponential(PAUSE_S), LONGEST_S - 5.0))
        scene[0, hour] = 1 + now.hour
        chance = world.chance(np.array([user]), scene)[0]
        chance[seen] = 0
        seen.append(int(rng.choice(len(chance), p=chance / chance.sum())))
        yield _event("click", user, seen[-1], now, told)


def _event(kind: str, user: int, item: int, at: datetime, told: dict[str, str]) -> RawEvent:
    key = user_id(user)
    body = {
        "user_id": key,
        "item_id": item_id(item),
        "kind": kind,
        "ts_ms": int(at.timestamp() * 1000),
        "scene": told,
    }
    return RawEvent("browses" if kind == "browse" else "clicks", key.encode(), orjson.dumps(body))
