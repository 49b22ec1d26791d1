"""The planted truth: how much a person wants each category in a scene, and how likely a push would be opened."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from deploy.shop.catalogue import CATEGORIES, Item
from deploy.shop.people import Person
from deploy.shop.scenes import Moment

NAMES = tuple(category.name for category in CATEGORIES)
STRONG, MILD = 5.0, 2.5

BY_HOURS: tuple[tuple[range, Mapping[str, float]], ...] = (
    (range(5, 10), {"coffee & breakfast": STRONG, "books": 1.5}),
    (range(10, 12), {"office": MILD, "electronics": 1.5}),
    (range(12, 15), {"snacks": MILD, "sport": 1.5}),
    (range(15, 18), {"office": MILD, "snacks": STRONG, "tea & comfort": 1.5}),
    (range(18, 22), {"fashion": STRONG, "sport": MILD}),
    (range(22, 24), {"games & film": STRONG, "books": MILD}),
    (range(5), {"games & film": STRONG}),
)
BY_DEVICE: Mapping[str, Mapping[str, float]] = {
    "desktop": {"electronics": STRONG, "office": MILD},
    "tablet": {"books": STRONG, "games & film": MILD},
    "phone": {"fashion": 1.5, "snacks": 1.5},
}
BY_WEATHER: Mapping[str, Mapping[str, float]] = {
    "rain": {"rain gear": STRONG, "tea & comfort": MILD, "outdoors": 0.3},
    "storm": {"rain gear": STRONG, "games & film": MILD, "outdoors": 0.2},
    "snow": {"tea & comfort": STRONG, "fashion": 1.5, "outdoors": 0.5},
    "clear": {"outdoors": MILD, "sport": 1.5, "rain gear": 0.3},
    "clouds": {"rain gear": 0.7},
}
AT_WEEKENDS: Mapping[str, float] = {"garden & toys": STRONG, "outdoors": 1.5, "office": 0.3}


@lru_cache(maxsize=65_536)
def scene_weights(hour: int, weekend: bool, device: str, weather: str) -> tuple[float, ...]:
    """What the scene multiplies a person's interests by, one factor a category."""
    hours = next(wants for span, wants in BY_HOURS if hour in span)
    parts = (hours, BY_DEVICE.get(device, {}), BY_WEATHER.get(weather, {}), AT_WEEKENDS if weekend else {})
    weights = []
    for name in NAMES:
        weight = 1.0
        for part in parts:
            weight *= part.get(name, 1.0)
        weights.append(weight)
    return tuple(weights)


def wants(person: Person, moment: Moment) -> tuple[float, ...]:
    """How much the person wants each category at that moment; the higher, the likelier the next look goes there."""
    scene = scene_weights(moment.hour, moment.weekend, moment.device, moment.weather)
    return tuple(interest * weight for interest, weight in zip(person.interests, scene, strict=True))


def open_probability(person: Person, moment: Moment, item: Item) -> float:
    """Chance that a push of that item is opened at that moment: between 1 and 30 %, by its share of what is wanted."""
    wanted = wants(person, moment)
    share = wanted[item.category] / sum(wanted)
    return min(0.01 + 0.6 * share, 0.3)
