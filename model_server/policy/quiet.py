"""Quiet hours in the user's own zone: whether it is night there, and when it ends."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple


class Night(NamedTuple):
    """`minute` of the local day 0..1439; `until_ms` when the quiet hours end, 0 outside of them."""

    minute: int
    until_ms: int


def night(now_ms: int, zone: tzinfo, from_minute: int, until_minute: int) -> Night:
    """The local minute and, inside the quiet hours, their end.

    The end is the next instant at which a clock on the wall shows it. On the day the clock jumps over that time, it is
    as long after the jump as the time lies inside the jump; on the day it shows it twice, the first showing to come.
    """
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    local = now.astimezone(zone)
    minute = local.hour * 60 + local.minute
    if not is_quiet(minute, from_minute, until_minute):
        return Night(minute, 0)
    day = local.date() + timedelta(days=1 if minute >= until_minute else 0)
    wall = datetime(day.year, day.month, day.day, until_minute // 60, until_minute % 60, tzinfo=zone)
    ends = (wall.replace(fold=fold).timestamp() for fold in (0, 1))
    return Night(
        minute, min((end for end in (round(s * 1000) for s in ends) if end > now_ms), default=now_ms + 3_600_000)
    )


def is_quiet(minute: int, from_minute: int, until_minute: int) -> bool:
    """Whether a minute of the day lies in from .. until (excluded), over midnight where from > until."""
    if from_minute <= until_minute:
        return from_minute <= minute < until_minute
    return minute >= from_minute or minute < until_minute
