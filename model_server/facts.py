"""What rules and ranker must know of leased users at one moment: nights, push logs, purchases, scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from model_server.policy.pushes import Log, PushColumns, columns
from model_server.policy.quiet import Night, night
from model_server.policy.rules import ItemFacts, UserFacts
from model_server.policy.settings import DAY_MS, PolicySettings
from model_server.scoring import ItemState, Scored
from streams.features.calendar import Calendar, country_of, zone_name
from streams.features.declaration import Declaration
from streams.features.rows import Rows
from streams.features.view import UserView

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class People:
    """U users at `now_ms`, before scoring: zone names and nights, push logs as objects and as columns."""

    now_ms: int
    zones: list[str]
    nights: list[Night]
    logs: list[Log]
    pushes: PushColumns
    facts: UserFacts


def people(
    rows: Rows, logs: list[Log], deadlines_ms: Sequence[int], now_ms: int, default_zone: str, settings: PolicySettings
) -> People:
    """Gather what the rules look at before scoring."""
    zones = [zone_name(code) or default_zone for code in rows["zone"].tolist()]
    start, end = settings.quiet_minutes
    night_of = {zone: night(now_ms, _zone(zone), start, end) for zone in set(zones)}
    nights = [night_of[zone] for zone in zones]
    pushes = columns(logs)
    facts = UserFacts(
        now_ms=now_ms,
        late_ms=now_ms - np.asarray(deadlines_ms, np.int64),
        opted_out_ms=rows["opted_out_ms"].copy(),
        token_dead_ms=rows["token_dead_ms"].copy(),
        pushed_day=(pushes.ts_ms > now_ms - DAY_MS).sum(1),
        last_push_ms=pushes.ts_ms.max(1),
        minute=np.array([n.minute for n in nights], np.int64),
        night_until_ms=np.array([n.until_ms for n in nights], np.int64),
    )
    return People(now_ms, zones, nights, logs, pushes, facts)


def item_facts(
    scored: Scored, items: ItemState, view: UserView, pushes: PushColumns, now_ms: int, purchase: int
) -> ItemFacts:
    """Gather what the rules look at after scoring; `purchase` is that kind's code."""
    present = scored.item >= 0
    index = np.maximum(scored.item, 0)
    codes = np.where(present, items.codes[index], np.uint64(0)) if len(items.ids) else np.zeros(index.shape, np.uint64)
    bought = view.valid & (view.kind == purchase)
    return ItemFacts(
        now_ms=now_ms,
        present=present,
        listed=present & _look(items.listed, index),
        in_stock=present & _look(items.in_stock, index),
        bought_ms=_latest_ms(codes, np.where(bought, view.item, np.uint64(0)), view.ts_s * 1000),
        pushed_ms=_latest_ms(codes, pushes.code, pushes.ts_ms),
        p_optout=scored.p_optout.astype(np.float64),
        final=scored.final.astype(np.float64),
    )


def _look(column: NDArray[np.bool_], index: NDArray[np.int32]) -> NDArray[np.bool_]:
    return column[index] if len(column) else np.zeros(index.shape, np.bool_)


def _latest_ms(codes: U64, seen: U64, ts_ms: I64) -> I64:
    """For each code u64[U, K] the latest time at which the user's `seen` u64[U, N] names it, 0 for never."""
    latest = np.zeros(codes.shape, np.int64)
    some = np.flatnonzero(seen.any(1))
    if len(some):
        same = (codes[some][:, :, None] == seen[some][:, None, :]) & (codes[some] != 0)[:, :, None]
        latest[some] = np.where(same, ts_ms[some][:, None, :], 0).max(2)
    return latest


def purchases(view: UserView, user: int, purchase: int) -> list[tuple[int, int]]:
    """(item code, ts_ms) of the purchases that one user's history holds."""
    at = np.flatnonzero(view.valid[user] & (view.kind[user] == purchase))
    return list(zip(view.item[user, at].tolist(), (view.ts_s[user, at] * 1000).tolist(), strict=True))


def scene_now(declaration: Declaration, calendar: Calendar, view: UserView, now_ms: int) -> NDArray[np.uint8]:
    """u8[U, S]: each user's last scene with hour, weekday and holiday of `now_ms` where the user is."""
    declared = len(declaration.scene)
    scene = np.zeros((view.size, len(declaration.scene_names)), np.uint8)
    scene[:, :declared] = view.scene
    places = list(zip(view.zone.tolist(), view.locale.tolist(), strict=True))
    moments: dict[tuple[int, bytes], tuple[int, int, int]] = {}
    for zone, locale in set(places):
        country = country_of(None, locale.decode("utf-8", "replace"))
        moment = calendar.moment(calendar.place(zone_name(zone), country), now_ms)
        moments[zone, locale] = (moment.hour + 1, moment.weekday + 1, moment.holiday)
    scene[:, declared:] = [moments[place] for place in places]
    return scene


@lru_cache(maxsize=1_024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
