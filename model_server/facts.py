"""What rules and ranker must know of leased users at one moment: nights, push logs, purchases, scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from model_server.policy.decide import Admission, admit
from model_server.policy.pushes import Log, PushColumns, Retraction, columns, decode, retractions
from model_server.policy.quiet import Night, night
from model_server.policy.rules import ItemFacts, UserFacts
from model_server.policy.settings import DAY_MS, PolicySettings
from model_server.rows import StoredUser
from model_server.scoring import ItemState, Scored
from streams.features.calendar import Calendar, country_of, zone_name
from streams.features.declaration import Declaration
from streams.features.rows import Layout, Rows
from streams.features.view import UserView

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Person:
    """One leased user as it was read: row and push log, how it was admitted, where it is, and what is taken back."""

    row: bytes
    log: Log
    admission: Admission
    retractions: list[Retraction]
    zone: str
    locale: str
    night: Night
    pushed_day: int


def people(
    layout: Layout,
    stored: Sequence[StoredUser],
    deadlines_ms: Sequence[int],
    now_ms: int,
    default_zone: str,
    settings: PolicySettings,
) -> list[Person]:
    """Look at U users before scoring. Raises SchemaMismatchError on rows of another declaration."""
    rows = layout.unpack([row for row, _ in stored])
    logs = [decode(log) for _, log in stored]
    zones = [zone_name(code) or default_zone for code in rows["zone"].tolist()]
    start, end = settings.quiet_minutes
    night_of = {zone: night(now_ms, _zone(zone), start, end) for zone in set(zones)}
    facts = user_facts(rows, logs, [night_of[zone] for zone in zones], deadlines_ms, now_ms)
    locales = rows["locale"].tolist()
    return [
        Person(
            row=stored[user][0] or b"",
            log=logs[user],
            admission=admission,
            retractions=_taken_back(layout, rows, logs[user], user, now_ms, settings) if logs[user] else [],
            zone=zones[user],
            locale=locales[user].decode("utf-8", "replace"),
            night=night_of[zones[user]],
            pushed_day=int(facts.pushed_day[user]),
        )
        for user, admission in enumerate(admit(facts, settings))
    ]


def user_facts(
    rows: Rows, logs: Sequence[Log], nights: Sequence[Night], deadlines_ms: Sequence[int], now_ms: int
) -> UserFacts:
    """What the rules look at before scoring."""
    pushes = columns(logs)
    return UserFacts(
        now_ms=now_ms,
        late_ms=np.maximum(now_ms - np.asarray(deadlines_ms, np.int64), 0),  # a drain takes users early
        opted_out_ms=rows["opted_out_ms"].copy(),
        token_dead_ms=rows["token_dead_ms"].copy(),
        pushed_day=(pushes.ts_ms > now_ms - DAY_MS).sum(1),
        last_push_ms=pushes.ts_ms.max(1),
        minute=np.array([n.minute for n in nights], np.int64),
        night_until_ms=np.array([n.until_ms for n in nights], np.int64),
    )


def _taken_back(
    layout: Layout, rows: Rows, log: Log, user: int, now_ms: int, settings: PolicySettings
) -> list[Retraction]:
    if all(push.retracted or push.expires_ms <= now_ms for push in log):
        return []
    entries = rows["history"][user][: rows["history_n"][user]]
    kind = (entries["key"] >> np.uint64(24)).astype(np.uint8)
    bought = entries[kind == layout.declaration.code("purchase")]
    times_ms = (bought["key"] >> np.uint64(32)).astype(np.int64) * 1000
    return retractions(
        log,
        list(zip(bought["item"].tolist(), times_ms.tolist(), strict=True)),
        opted_out=bool(rows["opted_out_ms"][user] > 0),
        now_ms=now_ms,
        bought_window_ms=settings.bought_window_ms,
    )


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
        grade=scored.grade.astype(np.int64),
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
