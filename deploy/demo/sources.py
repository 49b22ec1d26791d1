"""Where the demo's events come from: the simulated shop, or a real log moved up to the present."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Protocol

import orjson

from deploy.shop.traffic import Live, history
from deploy.shop.visits import Shop
from streams.logs.logs import Log, LogEvent

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
HISTORY_DAYS = 28
NO_QUIET_HOURS = "00:00-00:00"
OPENED = 0.1
"""Share of pushes that a log's people open: a log cannot react, so its opens are drawn at a flat rate."""


class Source(Protocol):
    """A past to fold at full speed, and a present that reacts to pushes."""

    @property
    def about(self) -> str: ...  # one line
    @property
    def settings(self) -> dict[str, str]: ...  # KAIROS_* variables its events need
    def past(self) -> Sequence[LogEvent]: ...
    def catalogue(self) -> Iterable[tuple[bytes, bytes]]: ...  # (key, value) for items.v1
    def go_live(self, now_ms: int) -> None: ...
    def due(self, now_ms: int) -> list[LogEvent]: ...
    def push(self, user_id: str, item_id: str, now_ms: int) -> None: ...
    def who(self, user_id: str, now_ms: int) -> str: ...  # a few words for the screen
    def title(self, item_id: str) -> str: ...


class ShopSource:
    """The simulated shop: four weeks of past, then people who live on and react."""

    def __init__(self, *, users: int, items: int, events: int, events_per_s: float, seed: int, now_ms: int) -> None:
        self._shop = Shop.build(users=users, items=items, seed=seed)
        self._events, self._rate, self._seed, self._now_ms = events, events_per_s, seed, now_ms
        self._people = {person.user_id: person for person in self._shop.people}
        self._titles = {item.item_id: item.title for item in self._shop.items}
        self._live: Live | None = None

    @property
    def about(self) -> str:
        return f"a simulated shop: {len(self._people):,} people, {len(self._titles):,} articles, seed {self._seed}"

    @property
    def settings(self) -> dict[str, str]:
        return {}

    def past(self) -> Sequence[LogEvent]:
        start_ms = self._now_ms - HISTORY_DAYS * DAY_MS
        random = Random(self._seed + 1)
        return history(self._shop, events=self._events, start_ms=start_ms, end_ms=self._now_ms, random=random)

    def catalogue(self) -> Iterable[tuple[bytes, bytes]]:
        return (item.wire(self._now_ms - HISTORY_DAYS * DAY_MS) for item in self._shop.items)

    def go_live(self, now_ms: int) -> None:
        self._live = Live(self._shop, events_per_s=self._rate, now_ms=now_ms, random=Random(self._seed + 2))

    def due(self, now_ms: int) -> list[LogEvent]:
        return self._live.due(now_ms) if self._live is not None else []

    def push(self, user_id: str, item_id: str, now_ms: int) -> None:
        if self._live is not None:
            self._live.push(user_id, item_id, now_ms)

    def who(self, user_id: str, now_ms: int) -> str:
        person = self._people.get(user_id)
        if person is None:
            return user_id
        moment = self._shop.moment(person, now_ms, Random(0))
        return f"{person.city.name} {moment.hour:02d} h, {moment.weather}"

    def title(self, item_id: str) -> str:
        return self._titles.get(item_id, item_id)


class LogSource:
    """A real log moved up by whole weeks, so that weekdays and hours stay; its newest part is played as the present."""

    def __init__(self, log: Log, *, events_per_s: float, live_s: float, seed: int, now_ms: int) -> None:
        self._log, self._rate, self._now_ms = log, events_per_s, now_ms
        live = min(int(events_per_s * live_s * 1.2), len(log.events) // 3)
        self._past, self._rest = log.events[: len(log.events) - live], deque(log.events[len(log.events) - live :])
        self._random = Random(seed)
        self._planned: deque[LogEvent] = deque()
        self._started_ms, self._played = 0, 0

    @property
    def about(self) -> str:
        return f"the log {self._log.name}: {self._log.cleaning}"

    @property
    def settings(self) -> dict[str, str]:
        span_days = (self._past[-1].ts_ms - self._past[0].ts_ms) // DAY_MS if self._past else 0
        horizon_days = str(max(400, span_days + 30))
        # A log's people live in one zone: at night there every push would wait for the morning.
        return {
            "KAIROS_ZONE": self._log.zone,
            "KAIROS_HORIZON_DAYS": horizon_days,
            "KAIROS_QUIET_HOURS": NO_QUIET_HOURS,
        }

    def past(self) -> Sequence[LogEvent]:
        return moved(dataclasses.replace(self._log, events=self._past), self._now_ms).events

    def catalogue(self) -> Iterable[tuple[bytes, bytes]]:
        return self._log.topic_items()

    def go_live(self, now_ms: int) -> None:
        self._started_ms = now_ms

    def due(self, now_ms: int) -> list[LogEvent]:
        due = []
        while self._planned and self._planned[0].ts_ms <= now_ms:
            due.append(self._planned.popleft())
        while self._rest and self._played < (now_ms - self._started_ms) / 1000 * self._rate:
            due.append(at(self._rest.popleft(), now_ms))
            self._played += 1
        return due

    def push(self, user_id: str, item_id: str, now_ms: int) -> None:
        for kind in ("sent", "delivered", *(["opened"] if self._random.random() < OPENED else [])):
            value = orjson.dumps({"user_id": user_id, "item_id": item_id, "kind": kind, "ts_ms": now_ms})
            self._planned.append(LogEvent(now_ms, "feedback", user_id.encode(), value))

    def who(self, user_id: str, now_ms: int) -> str:  # noqa: ARG002  (a log does not know where people are now)
        return user_id if len(user_id) <= 14 else f"…{user_id[-12:]}"

    def title(self, item_id: str) -> str:
        return str(self._log.items.get(item_id, {}).get("title") or f"item {item_id}")


def moved(log: Log, now_ms: int) -> Log:
    """The log moved by as many whole weeks as it can be without leaving the past."""
    shift_ms = (now_ms - log.events[-1].ts_ms) // WEEK_MS * WEEK_MS if log.events else 0
    return dataclasses.replace(log, events=[at(event, event.ts_ms + shift_ms) for event in log.events])


def at(event: LogEvent, ts_ms: int) -> LogEvent:
    """The event at another time."""
    value = event.value.replace(b'"ts_ms":%d' % event.ts_ms, b'"ts_ms":%d' % ts_ms, 1)
    return event._replace(ts_ms=ts_ms, value=value)
