"""The counters by what they look at: what a ranker leans on, and what a score is owed to, are told in these words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from model_server.counters.names import CATEGORY, OWN, PRICE, REQUEST, TITLES, TOGETHER, item_names, scene_names

if TYPE_CHECKING:
    from streams.features.declaration import Declaration

SCENE = "scene and time"
MOMENT = ("hour_sin", "hour_cos", "weekend", "list_scene", "list_hour_of_day")
"""Counters that look at the scene besides those of `names.scene_names`."""


def counter_groups(declaration: Declaration, names: Sequence[str]) -> dict[str, list[int]]:
    """Places of the counters of each group; every counter is in one, and no group is empty."""
    looks = {
        SCENE: {*scene_names(declaration), *MOMENT},
        "items by themselves": set(item_names(declaration)),
        "the user's past with the item": set(OWN),
        "categories": set(CATEGORY),
        "items taken together": set(TOGETHER),
        "prices": set(PRICE),
        "titles": set(TITLES),
        "the user": set(REQUEST),
        "retrieval lists": {name for name in names if name.startswith("list_")},
    }
    groups: dict[str, list[int]] = {group: [] for group in looks}
    for place, name in enumerate(names):
        groups[next(group for group, known in looks.items() if name in known)].append(place)
    return {group: places for group, places in groups.items() if places}
