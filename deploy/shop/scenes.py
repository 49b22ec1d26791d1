"""The scene a person of the simulated shop is in at a moment: place, device, network, weather, local hour."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from random import Random

import orjson

from deploy.shop.people import City, Person

SPELL_MS = 6 * 3_600_000
"""Weather changes at most every six hours."""


@dataclass(frozen=True)
class Moment:
    """Where and how a visit happens; `wire` is the JSON scene of its events."""

    hour: int
    weekday: int
    device: str
    weather: str
    place: str
    wire: bytes

    @property
    def weekend(self) -> bool:
        return self.weekday >= 5


def local_time(city: City, ts_ms: int) -> datetime:
    """Wall time in the city."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).astimezone(city.tz)


@lru_cache(maxsize=65_536)
def weather_of(city: City, spell: int, month: int, seed: int) -> tuple[str, float]:
    """(weather, temperature in °C) of a city in one spell of six hours since 1970."""
    random = Random(zlib.crc32(f"{seed}/{city.name}/{spell}".encode()))
    season = -1.0 if month in {12, 1, 2} else 1.0 if month in {6, 7, 8} else 0.0
    swing = 3.0 if city.degrees > 20 else 9.0
    degrees = city.degrees + swing * season * (-1.0 if city.zone.startswith("Australia") else 1.0) + random.gauss(0, 3)
    wet = "snow" if degrees < 1.0 else random.choices(["rain", "storm"], [0.9, 0.1])[0]
    dry = random.choices(["clear", "clouds", "fog", "wind"], [0.55, 0.33, 0.05, 0.07])[0]
    return (wet if random.random() < city.rainy else dry), round(degrees, 1)


def moment_of(person: Person, ts_ms: int, seed: int, random: Random) -> Moment:
    """The scene of a visit that starts at `ts_ms`."""
    local = local_time(person.city, ts_ms)
    weather, degrees = weather_of(person.city, ts_ms // SPELL_MS, local.month, seed)
    place = _place(local.hour, local.weekday(), random)
    device = _device(person, place, local.hour, random)
    on_phone = device == "phone"
    scene = {
        "device": device,
        "os": person.desktop_os if device == "desktop" else "ios" if device == "tablet" else person.phone_os,
        "app": "web" if device == "desktop" or random.random() < 0.15 else "app",
        "network": "cellular" if on_phone and place in {"transit", "outdoors", "store"} else "wifi",
        "region": person.city.region,
        "zone": person.city.zone,
        "locale": person.city.locale,
        "weather": weather,
        "temperature_c": degrees,
        "place": place,
    }
    return Moment(local.hour, local.weekday(), device, weather, place, orjson.dumps(scene))


def _place(hour: int, weekday: int, random: Random) -> str:
    if weekday < 5 and 9 <= hour < 18:
        return "work" if random.random() < 0.7 else random.choice(["transit", "outdoors", "store", "home"])
    if weekday < 5 and hour in {7, 8, 18, 19}:
        return "transit" if random.random() < 0.5 else "home"
    return "home" if random.random() < 0.75 else random.choice(["outdoors", "store", "transit"])


def _device(person: Person, place: str, hour: int, random: Random) -> str:
    if place in {"transit", "outdoors", "store"}:
        return "phone"
    desktop = person.desktop_share * (1.5 if place == "work" else 0.6)
    if random.random() < desktop:
        return "desktop"
    return "tablet" if person.has_tablet and hour >= 19 and random.random() < 0.5 else "phone"
