"""Traffic of the simulated shop: a history up to a moment, and live events as the clock goes on."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import accumulate
from random import Random

from deploy.shop.people import Person
from deploy.shop.reactions import react
from deploy.shop.scenes import local_time
from deploy.shop.visits import EVENTS_PER_VISIT, Shop, visit
from streams.logs.logs import LogEvent

HOURS = (3, 2, 1, 1, 1, 2, 5, 8, 9, 8, 7, 7, 9, 7, 6, 6, 7, 8, 9, 11, 13, 14, 11, 6)
"""How busy each local hour is."""
LIVE_PACE = 0.15
"""Live visitors hurry, so that a minute shows whole funnels."""
IN_PROGRESS_MS = 20_000
"""Visits that began up to so long before the start are still going on when live traffic begins."""


def history(shop: Shop, *, events: int, start_ms: int, end_ms: int, random: Random) -> list[LogEvent]:
    """About `events` events between `start_ms` and `end_ms`, sorted by time; moves what `shop` remembers."""
    weights = list(accumulate(person.visits for person in shop.people))
    starts: list[tuple[int, Person]] = []
    wanted = max(1, round(events / EVENTS_PER_VISIT))
    while len(starts) < wanted:
        person = random.choices(shop.people, cum_weights=weights)[0]
        ts_ms = random.randrange(start_ms, end_ms)
        if random.random() * max(HOURS) < busy(person, ts_ms):
            starts.append((ts_ms, person))
    starts.sort(key=lambda start: start[0])
    made = [event for ts_ms, person in starts for event in visit(shop, person, ts_ms, random)]
    return sorted((event for event in made if event.ts_ms < end_ms), key=lambda event: event.ts_ms)


def busy(person: Person, ts_ms: int) -> int:
    """How likely the person is to visit at that moment, relative to max(HOURS)."""
    local = local_time(person.city, ts_ms - round(person.shift_h * 3_600_000))
    return HOURS[local.hour]


class Live:
    """Live traffic at about `events_per_s`: ask `due` for what has happened by now.

    People are chosen by how busy the hour is where they live; a push that was opened leads to a visit.
    """

    def __init__(self, shop: Shop, *, events_per_s: float, now_ms: int, random: Random) -> None:
        self._shop = shop
        self._random = random
        self._gap_ms = 1000.0 * EVENTS_PER_VISIT / events_per_s
        self._next_ms = float(now_ms - IN_PROGRESS_MS)
        self._start_ms = now_ms
        self._people = {person.user_id: person for person in shop.people}
        self._weights = list(accumulate(person.visits * busy(person, now_ms) for person in shop.people))
        self._items = {item.item_id: item for item in shop.items}
        self._planned: list[tuple[int, int, LogEvent]] = []
        self._number = 0

    def due(self, now_ms: int) -> list[LogEvent]:
        """Events whose time has come, in the order of time."""
        while self._next_ms <= now_ms:
            person = self._random.choices(self._shop.people, cum_weights=self._weights)[0]
            self._plan(visit(self._shop, person, int(self._next_ms), self._random, pace=LIVE_PACE))
            self._next_ms += self._random.expovariate(1.0 / self._gap_ms)
        due = []
        while self._planned and self._planned[0][0] <= now_ms:
            due.append(heapq.heappop(self._planned)[2])
        return due

    def push(self, user_id: str, item_id: str, now_ms: int) -> None:
        """A push reached the gateway now; what comes of it will be due in the seconds that follow."""
        person, item = self._people.get(user_id), self._items.get(item_id)
        if person is not None and item is not None:
            self._plan(react(self._shop, person, item, now_ms, self._random, pace=LIVE_PACE))

    def _plan(self, events: Iterable[LogEvent]) -> None:
        for event in events:
            if event.ts_ms >= self._start_ms:
                self._number += 1
                heapq.heappush(self._planned, (event.ts_ms, self._number, event))
