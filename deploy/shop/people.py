"""The people of the simulated shop: where they live, what they hold in their hands, what they like."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from zoneinfo import ZoneInfo

from deploy.shop.catalogue import CATEGORIES


@dataclass(frozen=True)
class City:
    """A place people live in; `rainy` and `degrees` steer its weather."""

    name: str
    zone: str
    region: str
    locale: str
    share: float
    rainy: float
    degrees: float

    @property
    def tz(self) -> ZoneInfo:
        return ZoneInfo(self.zone)


CITIES = (
    City("Shanghai", "Asia/Shanghai", "CN-SH", "zh-CN", 0.24, 0.35, 18.0),
    City("Chengdu", "Asia/Shanghai", "CN-SC", "zh-CN", 0.10, 0.45, 16.0),
    City("Beijing", "Asia/Shanghai", "CN-BJ", "zh-CN", 0.10, 0.15, 12.0),
    City("Taipei", "Asia/Taipei", "TW-TPE", "zh-TW", 0.06, 0.50, 23.0),
    City("Singapore", "Asia/Singapore", "SG", "en-SG", 0.06, 0.55, 28.0),
    City("London", "Europe/London", "GB-LND", "en-GB", 0.12, 0.45, 11.0),
    City("Berlin", "Europe/Berlin", "DE-BE", "de-DE", 0.08, 0.30, 10.0),
    City("New York", "America/New_York", "US-NY", "en-US", 0.09, 0.30, 13.0),
    City("San Francisco", "America/Los_Angeles", "US-CA", "en-US", 0.07, 0.20, 15.0),
    City("São Paulo", "America/Sao_Paulo", "BR-SP", "pt-BR", 0.05, 0.40, 21.0),
    City("Sydney", "Australia/Sydney", "AU-NSW", "en-AU", 0.03, 0.30, 19.0),
)
PHONES = (("ios", 0.42), ("android", 0.46), ("harmonyos", 0.12))
DESKTOPS = (("windows", 0.62), ("macos", 0.32), ("linux", 0.06))


@dataclass(frozen=True)
class Person:
    """One customer. `interests`: weight of each category, mean 1; `visits`: visits a day; `shift_h`: late riser > 0."""

    user_id: str
    city: City
    phone_os: str
    desktop_os: str
    has_tablet: bool
    desktop_share: float
    interests: tuple[float, ...]
    visits: float
    shift_h: float
    buys: float

    @property
    def key(self) -> bytes:
        return self.user_id.encode()


def build(users: int, random: Random) -> tuple[Person, ...]:
    """`users` people; a few visit often, most seldom."""
    return tuple(_person(number, random) for number in range(users))


def _person(number: int, random: Random) -> Person:
    liked = [random.gammavariate(0.6, 1.0) for _ in CATEGORIES]
    mean = sum(liked) / len(liked)
    return Person(
        user_id=f"u{number:06d}",
        city=random.choices(CITIES, [city.share for city in CITIES])[0],
        phone_os=_pick(PHONES, random),
        desktop_os=_pick(DESKTOPS, random),
        has_tablet=random.random() < 0.25,
        desktop_share=random.betavariate(1.2, 2.5),
        interests=tuple(0.15 + 0.85 * weight / mean for weight in liked),
        visits=min(random.lognormvariate(-1.6, 0.9), 4.0),
        shift_h=random.gauss(0.0, 1.2),
        buys=random.betavariate(2.0, 3.0),
    )


def _pick(shares: tuple[tuple[str, float], ...], random: Random) -> str:
    return random.choices([name for name, _ in shares], [share for _, share in shares])[0]
