"""Who gets a push now, later or not: one rule a test, and what happens when several speak."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model_server.policy import decide as deciding
from model_server.policy.decide import Ending, How, admit, decide
from model_server.policy.identity import collapse_key, dedup_key
from model_server.policy.pushes import KEPT, Push, columns, decode, encode, mark_retracted, retractions
from model_server.policy.rules import ITEM_RULES, USER_RULES, ItemFacts, Ruling, UserFacts, already_bought
from model_server.policy.settings import DAY_MS, PolicySettings
from streams.service.settings import SettingsError, read

T = 1_800_000_000_000
HOUR_MS = 3_600_000
SETTINGS = PolicySettings(min_score=0.1, max_optout=0.2, daily_cap=3, minimum_gap_s=4 * 3_600)


def user(**facts: int) -> UserFacts:
    quiet = {"late_ms", "opted_out_ms", "token_dead_ms", "pushed_day", "last_push_ms", "minute", "night_until_ms"}
    values: dict[str, Any] = {name: np.array([facts.get(name, 0)], np.int64) for name in quiet}
    return UserFacts(now_ms=T, **values)


def items(n: int = 1, **facts: Any) -> ItemFacts:
    def row(name: str, default: Any, dtype: Any) -> Any:
        return np.broadcast_to(np.asarray(facts.get(name, default), dtype), (1, n))

    return ItemFacts(
        now_ms=T,
        present=row("present", True, np.bool_),
        listed=row("listed", True, np.bool_),
        in_stock=row("in_stock", True, np.bool_),
        bought_ms=row("bought_ms", 0, np.int64),
        pushed_ms=row("pushed_ms", 0, np.int64),
        p_optout=row("p_optout", 0.0, np.float64),
        grade=row("grade", 1, np.int64),
        final=row("final", 0.5, np.float64),
    )


def admitted(**facts: int) -> Ending | None:
    return admit(user(**facts), SETTINGS)[0].ending


def decided(facts: ItemFacts, settings: PolicySettings = SETTINGS) -> Ending:
    return decide(facts, admit(user(), settings), settings)[0]


def settled(ending: Ending | None) -> tuple[How, str, str, Any, Any]:
    """The outcome and the step that settled it."""
    assert ending is not None
    step = ending.steps[-1]
    assert step.passed == (ending.outcome == "sent")
    return (ending.outcome, step.stage, step.rule, step.value, step.threshold)


def test_a_user_with_nothing_against_it_is_worth_a_score() -> None:
    assert admitted() is None


@pytest.mark.parametrize(
    ("facts", "stage", "rule", "value", "threshold"),
    [
        ({"opted_out_ms": T - 1}, "consent", "opted_out", T - 1, 0),
        ({"token_dead_ms": T - 1}, "consent", "token_dead", T - 1, 0),
        ({"late_ms": 6 * HOUR_MS + 1000}, "queue", "expired", 21_601, 21_600),
        ({"pushed_day": 3}, "fatigue", "daily_cap", 3, 3),
    ],
)
def test_a_user_is_refused(facts: dict[str, int], stage: str, rule: str, value: float, threshold: float) -> None:
    assert settled(admitted(**facts)) == ("refused", stage, rule, value, threshold)


@pytest.mark.parametrize("facts", [{"late_ms": 6 * HOUR_MS}, {"pushed_day": 2}, {"last_push_ms": T - 4 * HOUR_MS}])
def test_at_the_edge_a_user_still_passes(facts: dict[str, int]) -> None:
    assert admitted(**facts) is None


def test_a_user_pushed_an_hour_ago_is_held_until_the_gap_has_passed() -> None:
    last_ms = T - HOUR_MS
    held = admitted(last_push_ms=last_ms)
    assert settled(held) == ("held", "timing", "minimum_gap", 3_600, 14_400)
    assert held is not None
    assert held.retry_ms == last_ms + 4 * HOUR_MS


def test_a_user_at_night_is_held_until_the_morning() -> None:
    until_ms = T + 7 * HOUR_MS
    held = admitted(minute=60, night_until_ms=until_ms)
    assert settled(held) == ("held", "timing", "quiet_hours", 60, 480)
    assert held is not None
    assert held.retry_ms == until_ms


def test_a_user_held_by_two_rules_is_tried_when_the_last_one_passes() -> None:
    held = admitted(night_until_ms=T + HOUR_MS, last_push_ms=T - HOUR_MS)
    assert held is not None
    assert (held.steps[-1].rule, held.retry_ms) == ("quiet_hours", T + 3 * HOUR_MS)


def test_a_refusal_goes_before_a_hold() -> None:
    refused = admitted(night_until_ms=T + HOUR_MS, pushed_day=9)
    assert refused is not None
    assert (refused.outcome, refused.steps[-1].rule, refused.retry_ms) == ("refused", "daily_cap", None)


def test_users_are_judged_each_by_itself() -> None:
    both = UserFacts(T, *(np.concatenate([a, b]) for a, b in zip(user()[1:], user(pushed_day=5)[1:], strict=True)))
    first, second = admit(both, SETTINGS)
    assert first.ending is None
    assert second.ending is not None


def test_the_best_candidate_is_sent_with_its_score() -> None:
    ending = decided(items(2, final=[[0.7, 0.6]]))
    assert settled(ending) == ("sent", "score", "score", 0.7, 0.1)
    assert ending.picks == (0,)


def test_every_rule_that_was_looked_at_is_a_step() -> None:
    ending = decided(items(bought_ms=T - DAY_MS))
    assert [step.rule for step in ending.steps] == [
        *(rule.__name__ for rule in USER_RULES),
        *(rule.__name__ for rule in ITEM_RULES[: ITEM_RULES.index(already_bought) + 1]),
    ]
    assert [step.rule for step in ending.steps if not step.passed] == ["already_bought"]


def test_what_never_was_has_no_value() -> None:
    steps = {step.rule: step.value for step in decided(items()).steps}
    assert (steps["minimum_gap"], steps["already_bought"], steps["daily_cap"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("facts", "stage", "rule", "value", "threshold"),
    [
        ({"present": False}, "retrieval", "no_candidate", 0, 1),
        ({"listed": False}, "item", "unlisted", 0, 1),
        ({"in_stock": False}, "item", "out_of_stock", 0, 1),
        ({"bought_ms": T - DAY_MS}, "item", "already_bought", 86_400, 30 * 86_400),
        ({"pushed_ms": T - DAY_MS}, "item", "already_pushed", 86_400, 7 * 86_400),
        ({"p_optout": 0.25}, "score", "optout_risk", 0.25, 0.2),
        ({"grade": 0}, "score", "grade", 0, 1),
        ({"final": 0.09375}, "score", "score", 0.09375, 0.1),
    ],
)
def test_a_candidate_is_refused(facts: dict[str, Any], stage: str, rule: str, value: float, threshold: float) -> None:
    assert settled(decided(items(**facts))) == ("refused", stage, rule, value, threshold)


@pytest.mark.parametrize(
    "facts", [{"bought_ms": T - 30 * DAY_MS}, {"pushed_ms": T - 7 * DAY_MS}, {"final": 0.1}, {"p_optout": 0.2}]
)
def test_at_the_edge_a_candidate_still_passes(facts: dict[str, Any]) -> None:
    assert decided(items(**facts)).outcome == "sent"


def test_the_next_candidate_goes_where_the_best_was_bought() -> None:
    assert decided(items(3, bought_ms=[[T - 1000, 0, 0]])).picks == (1,)


def test_as_many_candidates_as_there_are_slots() -> None:
    facts = items(4, in_stock=[[True, False, True, True]])
    assert decided(facts, replace(SETTINGS, slots=2)).picks == (0, 2)


def test_a_refused_user_hears_why_the_best_candidate_failed() -> None:
    facts = items(2, final=[[0.9, 0.05]], in_stock=[[False, True]])
    ending = decided(facts)
    assert (ending.steps[-1].rule, ending.picks) == ("out_of_stock", (0,))


def test_a_score_that_is_no_number_never_passes() -> None:
    assert decided(items(final=np.nan)).outcome == "refused"


def push(code: int = 7, *, sent_ms: int = T, dedup: str = "d") -> Push:
    return Push("i", code, sent_ms, sent_ms + 6 * HOUR_MS, dedup, "c", 0)


def test_a_push_log_survives_its_blob_with_64_bit_codes() -> None:
    log = (push(2**64 - 1), push(1))
    assert decode(encode(log)) == log
    assert decode(None) == ()


def test_a_push_log_keeps_the_newest() -> None:
    log = [push(i, dedup=f"{i}") for i in range(KEPT + 5)]
    assert decode(encode(log)) == tuple(log[5:])


def test_a_broken_push_log_names_the_way_out() -> None:
    with pytest.raises(ValueError, match="delete the key"):
        decode(b'[{"item":"i"}]')


def test_push_logs_stand_side_by_side() -> None:
    code, ts_ms = columns([(push(1), push(2)), (), (push(3),)])
    assert code.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert ts_ms.tolist() == [[T, T], [0, 0], [T, 0]]


def taken_back(log: tuple[Push, ...], bought: list[tuple[int, int]], **kwargs: Any) -> list[tuple[str, str]]:
    defaults: dict[str, Any] = {"opted_out": False, "now_ms": T + HOUR_MS, "bought_window_ms": DAY_MS}
    return [(r.push.dedup_key, r.rule) for r in retractions(log, bought, **{**defaults, **kwargs})]


def test_a_purchase_takes_back_the_push_of_that_item_only() -> None:
    assert taken_back((push(7, dedup="a"), push(8, dedup="b")), [(7, T + 1)]) == [("a", "bought")]


def test_a_purchase_that_reached_us_after_the_push_counts() -> None:
    assert taken_back((push(),), [(7, T - 60_000)]) == [("d", "bought")]


def test_a_purchase_of_long_ago_takes_nothing_back() -> None:
    assert taken_back((push(),), [(7, T - DAY_MS)]) == []


def test_an_expired_push_is_not_taken_back() -> None:
    assert taken_back((push(),), [(7, T + 1)], now_ms=T + 6 * HOUR_MS) == []


def test_a_push_is_taken_back_once() -> None:
    log = (push(),)
    taken = retractions(log, [(7, T + 1)], opted_out=False, now_ms=T + 1, bought_window_ms=DAY_MS)
    assert taken_back(mark_retracted(log, taken), [(7, T + 1)]) == []


def test_an_opt_out_takes_back_every_open_push() -> None:
    assert taken_back((push(7, dedup="a"), push(8, dedup="b")), [], opted_out=True) == [
        ("a", "opted_out"),
        ("b", "opted_out"),
    ]


def test_the_dedup_key_follows_user_item_and_that_items_last_push() -> None:
    key = dedup_key("u", "i", 0)
    assert key == dedup_key("u", "i", 0)
    assert key not in {dedup_key("v", "i", 0), dedup_key("u", "j", 0), dedup_key("u", "i", 1)}


def test_the_collapse_key_fits_apns_and_separates_slots() -> None:
    long = "用户" * 80
    assert len(collapse_key(long, 3).encode()) <= 64
    assert collapse_key("u", 0) == collapse_key("u", 0)
    assert len({collapse_key("u", 0), collapse_key("u", 1), collapse_key("v", 0)}) == 3


def test_settings_that_cannot_be_are_named_all_at_once() -> None:
    env = {"KAIROS_MIN_SCORE": "2", "KAIROS_SLOTS": "9", "KAIROS_LIFE_S": "0"}
    with pytest.raises(SettingsError) as caught:
        read(PolicySettings, env)
    assert [text.split("=")[0] for text in sorted(caught.value.problems)] == sorted(env)


def test_quiet_hours_are_read_as_local_minutes() -> None:
    assert read(PolicySettings, {"KAIROS_QUIET_HOURS": "23:30-06:15"}).quiet_minutes == (1_410, 375)
    with pytest.raises(SettingsError, match="is no pair of local times, as 22:00-08:00"):
        read(PolicySettings, {"KAIROS_QUIET_HOURS": "22-8"})


def resting(facts: ItemFacts, _: PolicySettings) -> Ruling:
    """An item rule of a shop's own that only holds back: an item rests for an hour after its push."""
    passed = facts.now_ms - facts.pushed_ms >= HOUR_MS
    return Ruling("item", "resting", np.zeros(passed.shape), 0.0, passed, facts.pushed_ms + HOUR_MS)


@pytest.mark.parametrize(
    ("facts", "outcome", "rule", "picks", "retry_ms"),
    [
        ({"pushed_ms": [[T - 1, 0]]}, "sent", "resting", (1,), None),
        ({"pushed_ms": [[T - 1, T - 2]]}, "held", "resting", (0,), T - 1 + HOUR_MS),
        # The best one is refused for good, and the next best will do in an hour.
        ({"pushed_ms": [[T - 1, T - 2]], "listed": [[False, True]]}, "held", "resting", (1,), T - 2 + HOUR_MS),
        ({"pushed_ms": T - 1, "listed": False}, "refused", "unlisted", (0,), None),
        ({"pushed_ms": T - 1, "present": False}, "refused", "no_candidate", (), None),
    ],
)  # fmt: skip
def test_an_item_rule_may_hold_a_user_back_where_nothing_else_can_be_sent(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], outcome: str, rule: str, picks: Any, retry_ms: int | None
) -> None:
    without = tuple(r for r in ITEM_RULES if r.__name__ != "already_pushed")
    monkeypatch.setattr(deciding, "ITEM_RULES", (*without, resting))

    ending = decided(items(2, **facts))

    assert (ending.outcome, ending.steps[-1].rule, ending.picks, ending.retry_ms) == (outcome, rule, picks, retry_ms)
