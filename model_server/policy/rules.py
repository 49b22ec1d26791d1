"""The predicates of a push, cheapest first: each looks at all users, or all their candidates, and says what it saw."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.heads.grades import number
from model_server.policy.settings import PolicySettings

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class UserFacts(NamedTuple):
    """What the rules know of U users at `now_ms`; every time is epoch ms, 0 where it never happened.

    late_ms: how far behind its deadline each user is; pushed_day: pushes of the last 24 h; last_push_ms: newest push;
    minute: local minute of the day; night_until_ms: end of the quiet hours, 0 outside of them.
    """

    now_ms: int
    late_ms: I64
    opted_out_ms: I64
    token_dead_ms: I64
    pushed_day: I64
    last_push_ms: I64
    minute: I64
    night_until_ms: I64


class ItemFacts(NamedTuple):
    """What the rules know of K candidates of each of U users, best first; present is False past a user's last one.

    bought_ms, pushed_ms: when the user last bought, or was last pushed, this item, 0 for never. grade: 0 Not
    Recommended, 1 Recommended, 2 Best Match.
    """

    now_ms: int
    present: Bools
    listed: Bools
    in_stock: Bools
    bought_ms: I64
    pushed_ms: I64
    p_optout: F64
    grade: I64
    final: F64


class Ruling(NamedTuple):
    """What one rule saw: `value` against `threshold`, and whether the push may go on.

    `retry_ms`: for a rule that only holds back, when it will pass; None for a rule that refuses.
    """

    stage: str
    rule: str
    value: F64
    threshold: float
    passed: Bools
    retry_ms: I64 | None = None


def _ruling(stage: str, rule: str, value: NDArray[np.generic], threshold: float, passed: Bools) -> Ruling:
    return Ruling(stage, rule, value.astype(np.float64), threshold, passed)


def _since_s(now_ms: int, then_ms: I64) -> F64:
    """Seconds since a time, infinite where it never happened."""
    return np.where(then_ms > 0, (now_ms - then_ms) / 1000, np.inf)


def opted_out(facts: UserFacts, _: PolicySettings) -> Ruling:
    """The user wants no pushes; value = when that was said, in ms."""
    return _ruling("consent", "opted_out", facts.opted_out_ms, 0, facts.opted_out_ms <= 0)


def token_dead(facts: UserFacts, _: PolicySettings) -> Ruling:
    """No device takes a push any more; value = when the gateway said so, in ms."""
    return _ruling("consent", "token_dead", facts.token_dead_ms, 0, facts.token_dead_ms <= 0)


def expired(facts: UserFacts, settings: PolicySettings) -> Ruling:
    """What the user did is too long ago to answer; value = seconds behind the deadline."""
    late_s = facts.late_ms / 1000
    return _ruling("queue", "expired", late_s, settings.max_late_s, late_s <= settings.max_late_s)


def daily_cap(facts: UserFacts, settings: PolicySettings) -> Ruling:
    """The user had enough pushes for a day; value = pushes of the last 24 hours."""
    passed = facts.pushed_day < settings.daily_cap
    return _ruling("fatigue", "daily_cap", facts.pushed_day, settings.daily_cap, passed)


def minimum_gap(facts: UserFacts, settings: PolicySettings) -> Ruling:
    """The last push is too close; value = seconds since it. Holds until the gap has passed."""
    since_s = _since_s(facts.now_ms, facts.last_push_ms)
    gap_s = settings.minimum_gap_s
    ruling = _ruling("timing", "minimum_gap", since_s, gap_s, since_s >= gap_s)
    return ruling._replace(retry_ms=facts.last_push_ms + round(gap_s * 1000))


def quiet_hours(facts: UserFacts, settings: PolicySettings) -> Ruling:
    """It is night where the user is; value = local minute of the day. Holds until the night is over."""
    ruling = _ruling(
        "timing", "quiet_hours", facts.minute, settings.quiet_minutes[1], facts.night_until_ms <= facts.now_ms
    )
    return ruling._replace(retry_ms=facts.night_until_ms)


def no_candidate(items: ItemFacts, _: PolicySettings) -> Ruling:
    """Nothing was found to propose; value = 1 where there is a candidate."""
    return _ruling("retrieval", "no_candidate", items.present, 1, items.present)


def unlisted(items: ItemFacts, _: PolicySettings) -> Ruling:
    """The catalogue removed the item; value = 1 where it is listed."""
    return _ruling("item", "unlisted", items.listed, 1, items.listed)


def out_of_stock(items: ItemFacts, _: PolicySettings) -> Ruling:
    """The shop has none; value = 1 where it has."""
    return _ruling("item", "out_of_stock", items.in_stock, 1, items.in_stock)


def already_bought(items: ItemFacts, settings: PolicySettings) -> Ruling:
    """The user bought this item lately; value = seconds since."""
    since_s, window_s = _since_s(items.now_ms, items.bought_ms), settings.bought_days * 86_400
    return _ruling("item", "already_bought", since_s, window_s, since_s >= window_s)


def already_pushed(items: ItemFacts, settings: PolicySettings) -> Ruling:
    """The user was pushed this item lately; value = seconds since."""
    since_s, window_s = _since_s(items.now_ms, items.pushed_ms), settings.pushed_days * 86_400
    return _ruling("item", "already_pushed", since_s, window_s, since_s >= window_s)


def optout_risk(items: ItemFacts, settings: PolicySettings) -> Ruling:
    """The push might cost us the user; value = probability of an opt-out."""
    return _ruling("score", "optout_risk", items.p_optout, settings.max_optout, items.p_optout <= settings.max_optout)


def grade(items: ItemFacts, settings: PolicySettings) -> Ruling:
    """The model does not recommend the candidate; value = its grade: 0 not recommended, 1 recommended, 2 best match."""
    least = number(settings.min_grade)
    return _ruling("score", "grade", items.grade, least, items.grade >= least)


def score(items: ItemFacts, settings: PolicySettings) -> Ruling:
    """The candidate is not worth a push; value = final score."""
    return _ruling("score", "score", items.final, settings.min_score, items.final >= settings.min_score)


UserRule = Callable[[UserFacts, PolicySettings], Ruling]
ItemRule = Callable[[ItemFacts, PolicySettings], Ruling]

USER_RULES: tuple[UserRule, ...] = (opted_out, token_dead, expired, daily_cap, quiet_hours, minimum_gap)
"""Before scoring: a user who cannot be pushed now costs no forward pass."""

ITEM_RULES: tuple[ItemRule, ...] = (
    no_candidate,
    unlisted,
    out_of_stock,
    already_bought,
    already_pushed,
    optout_risk,
    grade,
    score,
)
"""After scoring, on every candidate; one that fails a rule leaves its place to the next best."""
