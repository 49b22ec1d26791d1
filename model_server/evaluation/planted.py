"""A shop whose truth is known: what its users take follows probabilities that are written down here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streams.features.declaration import Declaration

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

PLANTED = ("hour", "device", "weather")
"""Fields of the scene that say what is wanted."""
NULL = ("network", "weekday")
"""Fields that vary and say nothing."""
DEVICES, WEATHERS, NETWORKS = ("phone", "tablet", "desktop"), ("clear", "clouds", "rain"), ("wifi", "cellular")
DEVICE_SHARES, WEATHER_SHARES, NETWORK_SHARES = (0.6, 0.1, 0.3), (0.45, 0.3, 0.25), (0.6, 0.4)
ZONES, ZONE_SHARES = ("Asia/Shanghai", "Europe/London", "America/New_York"), (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class Planting:
    """How large the shop is and how loudly its scenes speak; chosen by plausibility, once.

    `hours`: a in exp(a cos(2 pi (hour - peak) / 24)), each category with a peak of its own, so that peak and trough
    differ by e^2a. `device`: factor of a category on the one device it goes with. `weather`: factor of every other
    category under clear skies or in rain. A category nobody fancies in particular keeps `floor` of the mean interest.
    """

    users: int = 600
    items: int = 480
    categories: int = 12
    days: int = 56
    hours: float = 1.0
    device: float = 3.0
    weather: float = 3.0
    floor: float = 0.15

    @property
    def nothing(self) -> Planting:
        """The same shop with no word in any scene."""
        return replace(self, hours=0.0, device=1.0, weather=1.0)


@dataclass(frozen=True)
class World:
    """U users, M items of C categories, and the chance of each item at a request.

    taste f64[U, C]: a user's interest in each category; category i64[M], appeal f64[M]: an item's category and its
    share of it; lifts: field -> f64[C, codes], what a value of the scene multiplies interests by (1 where unknown).
    zone i64[U] numbers ZONES; devices f64[U, 3]: how often a user has which; visits f64[U] a day.
    """

    planting: Planting
    seed: int
    names: tuple[str, ...]
    taste: F64
    category: I64
    appeal: F64
    lifts: Mapping[str, F64]
    zone: I64
    devices: F64
    visits: F64

    @classmethod
    def plant(cls, planting: Planting, seed: int, declaration: Declaration) -> World:
        """The shop of a seed; two plantings of one seed differ in what their scenes say, in nothing else."""
        rng = np.random.default_rng(seed)
        users, categories = planting.users, planting.categories
        liked = rng.gamma(0.6, size=(users, categories))
        category = np.arange(planting.items) % categories
        appeal = 1.0 / (np.arange(planting.items) // categories + 3)
        return cls(
            planting=planting,
            seed=seed,
            names=declaration.scene_names,
            taste=planting.floor + (1 - planting.floor) * liked / liked.mean(1, keepdims=True),
            category=category,
            appeal=appeal / np.bincount(category, appeal)[category],
            lifts=_lifts(planting, rng, declaration),
            zone=rng.choice(len(ZONES), users, p=ZONE_SHARES),
            devices=rng.dirichlet(3 * np.array(DEVICE_SHARES), users),
            visits=np.minimum(rng.lognormal(-0.7, 0.7, users), 4.0),
        )

    def chance(self, user: I64, scene: U8) -> F64:
        """Chance of every item [N, M] to be what users i64[N] take next under scenes u8[N, S]."""
        wanted = self.taste[user]
        for field, lift in self.lifts.items():
            wanted = wanted * lift[:, scene[:, self.names.index(field)]].T
        wanted /= wanted.sum(1, keepdims=True)
        return wanted[:, self.category] * self.appeal


def _lifts(planting: Planting, rng: np.random.Generator, declaration: Declaration) -> dict[str, F64]:
    """What each code of each planted field multiplies the interest in each category by."""
    categories = planting.categories
    numbers = {field: rng.permutation(categories) for field in PLANTED}
    lifts = {field: np.ones((categories, declaration.size_of(field))) for field in PLANTED}
    peak = 24 * numbers["hour"] / categories
    lifts["hour"][:, 1:] = np.exp(planting.hours * np.cos(2 * np.pi * (np.arange(24) - peak[:, None]) / 24))
    for number, device in enumerate(DEVICES):
        goes_with = numbers["device"] % len(DEVICES) == number
        lifts["device"][goes_with, code_of(declaration, "device", device)] = planting.device
    for number, weather in ((0, "clear"), (2, "rain")):
        goes_with = numbers["weather"] % 4 == number
        lifts["weather"][goes_with, code_of(declaration, "weather", weather)] = planting.weather
    return lifts


def code_of(declaration: Declaration, field: str, value: str) -> int:
    """Code of a listed value of a declared scene field."""
    return 1 + next(f.values for f in declaration.scene if f.name == field).index(value)
