"""The slow oracle: every row from the whole history of its user or item, sharing no code with the fold."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import holidays
import numpy as np
import tzfpy

from streams.testing.terms import MINUTE_MS, TERMS, Field, Terms

UNTOLD = {"schema", "spare", "pad", "counters_pad"}


@dataclass(frozen=True)
class Seen:
    """One event as the definition of the rows speaks of it."""

    user: str
    item: str
    kind: str
    ts_ms: int
    dwell_ms: int
    price_minor: int
    codes: dict[str, int]
    scened: bool
    zone: int
    locale: bytes

    def remembered(self, terms: Terms) -> tuple[int, int]:
        """The history entry: (time in s, kind, dwell, page, device) in one number, and the item."""
        dwell = 0 if self.dwell_ms <= 0 else min(1 + int(math.log2(1 + self.dwell_ms // 1000)), 32)
        key = self.ts_ms // 1000
        for part in (terms.kinds.index(self.kind), dwell, self.codes.get("page", 0), self.codes.get("device", 0)):
            key = key * 256 + part
        return key, item_code(self.item)


def see(event: Mapping[str, Any], default_zone: str, terms: Terms) -> Seen:
    """Read one wire event (times in ms)."""
    scene: Mapping[str, Any] = event.get("scene") or {}
    values = {**scene, "page": event.get("page")}
    zone = str(scene.get("zone") or "")
    zone = zone if zone in available_zones() else ""
    if not zone and scene.get("lat") is not None and scene.get("lon") is not None:
        zone = tzfpy.get_tz(float(scene["lon"]), float(scene["lat"])) or ""
    locale = str(scene.get("locale") or "")
    codes = {name: scene_code(field, values.get(name)) for name, field in terms.scene.items()}
    codes |= moment(zone or default_zone, country_of(scene.get("region"), locale), int(event["ts_ms"]))
    return Seen(
        user=str(event["user_id"]),
        item=str(event["item_id"]),
        kind=str(event["kind"]),
        ts_ms=int(event["ts_ms"]),
        dwell_ms=int(event.get("dwell_ms") or 0),
        price_minor=round(float(event.get("price") or 0.0) * 100),
        codes=codes,
        scened=event.get("scene") is not None or codes.get("page", 0) > 0,
        zone=zlib.crc32(zone.encode()) if zone else 0,
        locale=locale.encode()[:8],
    )


@cache
def available_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def item_code(item: str) -> int:
    return int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "little") or 1


def scene_code(field: Field, value: object) -> int:
    if value is None or value == "":
        return 0
    if field.step:
        below = [i for i in range(len(field.values)) if field.low + i * field.step <= float(str(value))]
        return max(len(below), 1)
    word = str(value).strip().lower()
    if word in field.values:
        return field.values.index(word) + 1
    if field.buckets:
        return 1 + len(field.values) + item_code(word) % field.buckets
    return field.values.index("other") + 1 if "other" in field.values else 0


def country_of(region: object, locale: str) -> str | None:
    text = str(region or "")
    if text[:2].isascii() and text[:2].isupper() and text[:2].isalpha() and (len(text) == 2 or text[2:3] in {"-", "_"}):
        return text[:2] if len(text) != 3 else None
    tail = locale.replace("_", "-").split("-")[-1]
    return tail if len(tail) == 2 and tail.isupper() else None


@cache
def moment_of_minute(zone: str, country: str | None, minute: int) -> tuple[tuple[str, int], ...]:
    local = datetime.fromtimestamp(minute * 60, UTC).astimezone(ZoneInfo(zone))
    holiday = holiday_of(country, local.date()) if country else 0
    return (("hour", local.hour + 1), ("weekday", local.weekday() + 1), ("holiday", holiday))


def moment(zone: str, country: str | None, ts_ms: int) -> dict[str, int]:
    return dict(moment_of_minute(zone, country, ts_ms // MINUTE_MS))


@cache
def days_off(country: str) -> Any:
    try:
        return holidays.country_holidays(country)
    except NotImplementedError:
        return None


@cache
def holiday_of(country: str, day: date) -> int:
    off = days_off(country)
    if off is None:
        return 0
    for shift, code in ((0, 3), (1, 2), (-1, 4)):
        if day + timedelta(days=shift) in off:
            return code
    return 1


def user_rows(
    events: Iterable[Mapping[str, Any]], default_zone: str = "UTC", terms: Terms = TERMS
) -> dict[str, dict[str, Any]]:
    """The row of every user as plain values by field name, from wire events in any order."""
    by_user: defaultdict[str, list[Seen]] = defaultdict(list)
    for event in events:
        seen = see(event, default_zone, terms)
        by_user[seen.user].append(seen)
    return {user: user_row(history, terms) for user, history in by_user.items()}


def user_row(events: list[Seen], terms: Terms) -> dict[str, Any]:
    """One user's row, the fields of streams.features.rows.Layout."""
    active = [e for e in events if e.kind in terms.active]
    scened = [(e.ts_ms, [e.codes[name] for name in terms.scene]) for e in active if e.scened]
    placed = [(e.ts_ms, e.zone, e.locale) for e in active if e.zone or e.locale]
    priced = [e.price_minor for e in active if e.price_minor > 0]
    kept = sorted(e.remembered(terms) for e in events if e.kind in terms.remembered)[-terms.history :]
    hours = Counter((e.codes["weekday"] - 1) * 24 + e.codes["hour"] - 1 for e in active)
    kinds = Counter(e.kind for e in events)
    scene_ms, scene = max(scened, default=(0, [0] * len(terms.scene)))
    place_ms, zone, locale = max(placed, default=(0, 0, b""))
    return {
        "last_ms": max(e.ts_ms for e in events),
        "first_ms": min(e.ts_ms for e in events),
        "scene_ms": scene_ms,
        "scene": scene,
        "place_ms": place_ms,
        "zone": zone,
        "locale": locale,
        "opted_out_ms": max((e.ts_ms for e in events if e.kind == terms.opted_out), default=0),
        "token_dead_ms": max((e.ts_ms for e in events if e.kind == terms.token_dead), default=0),
        "price_sum_minor": sum(priced),
        "priced": len(priced),
        "dwell_s": sum(e.dwell_ms // 1000 for e in events),
        "totals": [kinds[kind] for kind in terms.kinds],
        "windows": rings(events, terms.windowed, terms, ceiling=255),
        **({"hour_of_week": [min(hours[hour], 255) for hour in range(168)]} if terms.hour_of_week else {}),
        "history_n": len(kept),
        "history": kept,
    }


def rings(events: list[Seen], kinds: tuple[str, ...], terms: Terms, ceiling: int) -> list[list[list[int]]]:
    """Counts by kind, window and slot: the twelve newest buckets up to the newest event; slot = bucket % 12."""
    last_ms = max(e.ts_ms for e in events)
    table = [[[0] * 12 for _ in terms.windows_ms] for _ in kinds]
    for e in events:
        if e.kind not in kinds:
            continue
        for at, length_ms in enumerate(terms.windows_ms):
            bucket = e.ts_ms * 12 // length_ms
            if bucket > last_ms * 12 // length_ms - 12:
                cell = table[kinds.index(e.kind)][at]
                cell[bucket % 12] = min(cell[bucket % 12] + 1, ceiling)
    return table


def item_rows(
    events: Iterable[Mapping[str, Any]], default_zone: str = "UTC", terms: Terms = TERMS
) -> dict[str, dict[str, Any]]:
    """The row of every item as plain values by field name, from wire events in any order."""
    by_item: defaultdict[str, list[Seen]] = defaultdict(list)
    for event in events:
        seen = see(event, default_zone, terms)
        if seen.kind in terms.of_items:
            by_item[seen.item].append(seen)
    return {item: item_row(history, terms) for item, history in by_item.items()}


def item_row(events: list[Seen], terms: Terms) -> dict[str, Any]:
    """One item's row, the fields of streams.features.items.ItemLayout."""
    last_ms = max(e.ts_ms for e in events)
    kinds = Counter(e.kind for e in events)
    profiles: list[list[int]] = [[], []]
    for period in (last_ms // terms.period_ms, last_ms // terms.period_ms - 1):
        inside = [e for e in events if e.ts_ms // terms.period_ms == period]
        for name in terms.profiles:
            counts = Counter(e.codes[name] for e in inside)
            profiles[period % 2] += [min(counts[code], 65_535) for code in range(terms.size_of(name))]
    return {
        "period": last_ms // terms.period_ms,
        "first_ms": min(e.ts_ms for e in events),
        "last_ms": last_ms,
        "totals": [kinds[kind] for kind in terms.of_items],
        "windows": rings(events, terms.of_items, terms, ceiling=2**32 - 1),
        "profiles": profiles,
    }


def plain(row: np.void) -> dict[str, Any]:
    """A stored row in the oracle's terms; the schema number and the padding are nobody's facts."""
    named = {name: row[name].tolist() for name in row.dtype.names or () if name not in UNTOLD}
    if "history" in named:
        named["history"] = named["history"][: named["history_n"]]
    return named


def difference(expected: Mapping[str, Any], row: np.void) -> dict[str, tuple[Any, Any]]:
    """Fields in which a stored row is not what the oracle says: name -> (expected, stored)."""
    stored = plain(row)
    names = expected.keys() | stored.keys()
    return {name: (expected.get(name), stored.get(name)) for name in names if expected.get(name) != stored.get(name)}
