"""Quiet hours in the user's own zone: whether it is night there, when it ends and when the next one begins."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple


class Night(NamedTuple):
    """`minute` of the local day 0..1439; `until_ms`: end of the quiet hours, 0 outside of them; `next_ms`: when the
    next quiet hours begin, 0 for never.
    """

    minute: int
    until_ms: int
    next_ms: int


def night(now_ms: int, zone: tzinfo, from_minute: int, until_minute: int) -> Night:
    """How the quiet hours stand at `now_ms`."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    minute = local.hour * 60 + local.minute
    if from_minute == until_minute:
        return Night(minute, 0, 0)
    quiet = is_quiet(minute, from_minute, until_minute)
    return Night(
        minute,
        upcoming(now_ms, local, until_minute) if quiet else 0,
        upcoming(now_ms, local, from_minute),
    )


def is_quiet(minute: int, from_minute: int, until_minute: int) -> bool:
    """Whether a minute of the day lies in from .. until (excluded), over midnight where from > until."""
    if from_minute <= until_minute:
        return from_minute <= minute < until_minute
    return minute >= from_minute or minute < until_minute


def upcoming(now_ms: int, local: datetime, minute: int) -> int:
    """The first instant after now at which a clock on the wall shows this minute of the day, in epoch ms.

    `local` is now in the zone. On a day on which the clock jumps over that time, it is as long after the jump as the
    time lies inside of it; on a day that shows it twice, the first showing to come.
    """
    instants = []
    for days in (0, 1, 2):
        day = local.date() + timedelta(days=days)
        for fold in (0, 1):
            wall = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=local.tzinfo, fold=fold)
            instants.append(round(wall.timestamp() * 1000))
    return min(instant for instant in instants if instant > now_ms)
