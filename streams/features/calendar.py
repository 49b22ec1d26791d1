"""Local hour, weekday and holiday of a place at an event's own time; pure look-ups of (place, time), cached."""

import re
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import holidays
import numpy as np
import tzfpy
from numpy.typing import NDArray

HOLIDAY_NONE, HOLIDAY_EVE, HOLIDAY_DAY, HOLIDAY_AFTER = 1, 2, 3, 4
SLICE_MS = 900_000
"""Every zone's offset is a whole number of quarter hours since 1972, so local hours are looked up by quarter hour."""

MAX_CACHED = 1_000_000

_REGION = re.compile(r"([A-Z]{2})(?:[-_].+)?")


@cache
def _zone_names() -> dict[int, str]:
    return {zone_code(name): name for name in sorted(available_timezones())}


def zone_code(name: str) -> int:
    """Stable 32-bit code of a zone's name; 0 stands for none."""
    return zlib.crc32(name.encode()) if name else 0


def zone_name(code: int) -> str | None:
    """Name of the zone with this code, None for an unknown one."""
    return _zone_names().get(code)


def is_zone(name: str) -> bool:
    """Whether `name` is a zone of the IANA database."""
    return _zone_names().get(zone_code(name)) == name


def zone_at(lat: float, lon: float) -> str | None:
    """Zone at a point in degrees, None outside the map."""
    if not (-90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0):
        return None
    return tzfpy.get_tz(lon, lat) or None


def country_of(region: str | None, locale: str | None = None) -> str | None:
    """Country of a region such as "BR" or "BR-SP", else of a locale such as "pt-BR"; None when neither says."""
    if region and (match := _REGION.fullmatch(region)):
        return match[1]
    tail = re.split("[-_]", locale)[-1] if locale else ""
    return tail if len(tail) == 2 and tail.isupper() else None


@cache
def _holidays_of(country: str) -> holidays.HolidayBase | None:
    try:
        return holidays.country_holidays(country)
    except NotImplementedError:
        return None


@lru_cache(maxsize=65_536)
def holiday_code(country: str, day: date) -> int:
    """Holiday code of a day in a country: none, the eve, the day itself, the day after; 0 where unknown."""
    known = _holidays_of(country)
    if known is None:
        return 0
    if day in known:
        return HOLIDAY_DAY
    if day + timedelta(days=1) in known:
        return HOLIDAY_EVE
    return HOLIDAY_AFTER if day - timedelta(days=1) in known else HOLIDAY_NONE


@cache
def _warm_up() -> None:
    """Load the tables behind the look-ups once a process (about a second), not within the first event."""
    zone_at(0.0, 0.0)
    holiday_code("GB", date(2000, 1, 1))


class Moment(NamedTuple):
    """Local hour 0..23, weekday 0..6 (Monday 0) and holiday code of a place at a time."""

    hour: int
    weekday: int
    holiday: int


class _Packed(dict[int, int]):
    """Codes hour | weekday << 8 | holiday << 16 by `place << 40 | ts_ms // SLICE_MS`, forgotten above a million."""

    def __init__(self, moment: Callable[[int, int], Moment]) -> None:
        super().__init__()
        self._moment = moment

    def __missing__(self, key: int) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        hour, weekday, holiday = self._moment(key >> 40, (key & ((1 << 40) - 1)) * SLICE_MS)
        packed = self[key] = hour + 1 | weekday + 1 << 8 | holiday << 16
        return packed


class Calendar:
    """Local moments of places; a place is a (zone, country) pair with a small number of its own.

    `default_zone` serves events that name no zone: the shop's own. Raises ValueError when it is no zone.
    """

    def __init__(self, default_zone: str = "UTC") -> None:
        if not is_zone(default_zone):
            text = f"{default_zone!r} is no time zone: use a name of the IANA database such as Europe/London"
            raise ValueError(text)
        self.default_zone = default_zone
        self._places: list[tuple[ZoneInfo, str | None]] = []
        self._numbers: dict[tuple[str, str | None], int] = {}
        self._packed = _Packed(self.moment)
        self.place(None, None)
        _warm_up()

    def place(self, zone: str | None, country: str | None) -> int:
        """Number of a place; the default place is 0."""
        key = (zone or self.default_zone, country)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._places)
            self._places.append((ZoneInfo(key[0]), country))
        return number

    def moment(self, place: int, ts_ms: int) -> Moment:
        """Local moment of `place` at `ts_ms`."""
        zone, country = self._places[place]
        local = datetime.fromtimestamp(ts_ms / 1000, UTC).astimezone(zone)
        holiday = holiday_code(country, local.date()) if country else 0
        return Moment(local.hour, local.weekday(), holiday)

    def codes(self, place: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Codes u8[E, 3] of the hours (1..24), weekdays (1..7) and holidays of places i64[E] at times i64[E]."""
        keys = (place << 40) + ts_ms // SLICE_MS
        packed = np.fromiter(map(self._packed.__getitem__, keys.tolist()), "<u4", len(keys))
        return packed.view(np.uint8).reshape(-1, 4)[:, :3]

    def hour_of_week_at(self, zone: int, ts_ms: int) -> int:
        """Local hour of the week 0..167 of a zone code (0: the default zone) at `ts_ms`."""
        local = self.moment(self.place(zone_name(zone), None), ts_ms)
        return local.weekday * 24 + local.hour
