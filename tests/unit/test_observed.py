"""What is observed after a moment, against a slow reading of the log; and how much it counts."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model_server.heads.grades import LOOKED, TAKEN
from model_server.training.importance import ImportanceSettings, importance, propensity
from model_server.training.observed import LONG_MS, Observed, light, strength
from model_server.training.recorded import Recorded
from streams.features.declaration import DEFAULT, Kind
from streams.features.features_file import merge
from tests.shoplog import recorded

HOUR_MS = 3_600_000
KINDS = {kind.name: code for code, kind in enumerate(DEFAULT.kinds)}


@pytest.fixture(scope="module")
def log() -> Recorded:
    return recorded(3, users=8, items=12, events=600)


def slow(log: Recorded, user: int, item: int, now_ms: int, window_ms: int) -> float:
    columns = log.columns
    own = (log.user == user) & (log.item == item) & (columns.ts_ms >= now_ms) & (columns.ts_ms < now_ms + window_ms)
    kinds = {DEFAULT.kinds[code].name for code in columns.kind[own]}
    return 1.0 if kinds & {"cart", "purchase"} else 0.5 if kinds & {"click", "browse"} else 0.0


def test_the_grade_of_a_candidate_is_the_strongest_act_within_the_window(log: Recorded) -> None:
    observed = Observed(log, DEFAULT, 12 * HOUR_MS)
    events = np.arange(0, len(log), 25)
    user, now_ms = log.user[events], log.columns.ts_ms[events]
    item = np.tile(np.arange(-1, 12, dtype=np.int32), (len(events), 1))
    found = observed.grades(user, now_ms, item)
    for row in range(len(events)):
        expected = [slow(log, int(user[row]), i, int(now_ms[row]), 12 * HOUR_MS) if i >= 0 else 0 for i in item[row]]
        assert found[row].tolist() == expected
    assert {0.0, 0.5, 1.0} == set(np.unique(found).tolist())


def test_what_happened_at_the_moment_counts_and_at_the_end_of_the_window_no_more(log: Recorded) -> None:
    event = int(np.flatnonzero(log.columns.kind == KINDS["purchase"])[-1])
    user, item = log.user[event : event + 1], log.item[event : event + 1][:, None]
    ts_ms = log.columns.ts_ms[event]
    only = dataclasses.replace(
        log, columns=log.columns.take(np.array([event])), user=user, item=item[:, 0].astype(np.int32)
    )
    observed = Observed(only, DEFAULT, HOUR_MS)
    moments = np.array([ts_ms, ts_ms - HOUR_MS + 1, ts_ms - HOUR_MS, ts_ms + 1])
    found = observed.grades(np.repeat(user, 4), moments, np.repeat(item, 4, axis=0))
    assert found[:, 0].tolist() == [1, 1, 0, 0]
    assert observed.came(np.repeat(user, 4), moments).tolist() == [False, True, True, False]


def test_a_short_look_is_none_and_one_of_unknown_length_is(log: Recorded) -> None:
    event = np.flatnonzero(log.columns.kind == KINDS["browse"])[:3]
    dwell_ms = np.array([0, LONG_MS - 1, LONG_MS])
    columns = log.columns.take(event)._replace(dwell_ms=dwell_ms)
    three = dataclasses.replace(log, columns=columns, user=log.user[event], item=log.item[event])
    found = Observed(three, DEFAULT, 1).grades(three.user, columns.ts_ms, three.item[:, None])
    assert found[:, 0].tolist() == [LOOKED, 0, LOOKED]
    clicks = dataclasses.replace(three, columns=columns._replace(kind=np.full(3, KINDS["click"], np.uint8)))
    assert (Observed(clicks, DEFAULT, 1).grades(three.user, columns.ts_ms, three.item[:, None]) == LOOKED).all()


def test_what_a_kind_is_worth_is_read_from_the_declaration() -> None:
    worth = {kind.name: strength(kind) for kind in DEFAULT.kinds}
    assert {name for name, value in worth.items() if value == TAKEN} == {"cart", "purchase"}
    assert {name for name, value in worth.items() if value == LOOKED} == {"click", "browse"}
    gift = merge(
        DEFAULT,
        {"kinds": {"gift": {"wire": "gift", "topic": "orders", "active": True, "item": True, "strong": True}}},
    ).kinds[-1]
    assert strength(gift) == TAKEN
    assert not light(gift)
    assert light(Kind("glance", "glance", "clicks", active=True, item=True))


def test_a_new_strong_kind_counts_like_a_purchase(log: Recorded) -> None:
    changed = tuple(dataclasses.replace(k, strong=True) if k.name == "click" else k for k in DEFAULT.kinds)
    declaration = dataclasses.replace(DEFAULT, kinds=changed)
    click = np.flatnonzero(log.columns.kind == KINDS["click"])[:1]
    user, now_ms, item = log.user[click], log.columns.ts_ms[click], log.item[click][:, None]
    assert Observed(log, DEFAULT, 1).grades(user, now_ms, item).tolist() == [[0.5]]
    assert Observed(log, declaration, 1).grades(user, now_ms, item).tolist() == [[1.0]]


def test_only_what_is_over_is_known_unless_the_log_is_too_short(log: Recorded) -> None:
    observed, last_ms = Observed(log, DEFAULT, HOUR_MS), int(log.columns.ts_ms[-1])
    moments = last_ms - np.array([3, 2, 1, 0]) * HOUR_MS
    assert observed.complete(moments).tolist() == [True, True, True, False]
    assert observed.complete(moments, last_ms - HOUR_MS).tolist() == [True, True, False, False]
    assert observed.complete(moments, last_ms - 2 * HOUR_MS).all()


def made(**changes: Any) -> NDArray[np.float64]:
    facts: dict[str, Any] = {
        "grade": np.zeros((4, 3)), "age_ms": np.zeros(4, np.int64), "share": np.full(4, 0.25),
        "events": np.ones(4, np.int64), **changes,
    }  # fmt: skip
    return importance(**facts)


def test_alike_observations_weigh_one_each() -> None:
    np.testing.assert_allclose(made(), 1.0)


def test_each_part_of_omega_moves_it_as_it_says() -> None:
    graded = made(grade=np.array([[0, 0.5, 1.0]] * 4))
    np.testing.assert_allclose(graded[0] / graded[0, 0], [1, 1.5, 2])
    half = ImportanceSettings().half_life_ms
    aged = made(age_ms=np.array([0, half, 2 * half, 0]))
    np.testing.assert_allclose(aged[:3, 0] / aged[0, 0], [1, 0.5, 0.25])
    busy = made(events=np.array([0, 1, 4, 100]))
    np.testing.assert_allclose(busy[:, 0] / busy[0, 0], [1, 1, 0.5, 0.1])
    rare = made(share=np.array([0.5, 0.25, 0.125, 0.125]))
    np.testing.assert_allclose(rare[:, 0] / rare[0, 0], [1, 2, 4, 4])


def test_omega_is_normalised_clipped_and_capped() -> None:
    rng = np.random.default_rng(0)
    share = np.where(np.arange(2_000) < 5, 1e-6, 0.5)
    omega = importance(
        rng.choice([0, 0.5, 1.0], (2_000, 20)), rng.integers(0, 10**10, 2_000), share, rng.integers(1, 9, 2_000)
    )
    assert omega.mean() == pytest.approx(1, rel=0.05)
    assert 0 < omega.min() <= omega.max() <= ImportanceSettings().most
    clipped = made(share=np.array([1e-9, 0.4, 0.3, 0.3]))
    assert clipped[0, 0] / clipped[2, 0] == pytest.approx(5 / (1 / 0.3 / 3))
    assert made(grade=np.empty((0, 3)), age_ms=np.empty(0, np.int64), share=np.empty(0), events=np.empty(0)).size == 0


def test_a_cell_nobody_was_in_counts_as_the_rarest() -> None:
    assert propensity(np.array([0, 0, 0, 2]), 4).tolist() == [0.75, 0.25, 0.25, 0.25]
    assert np.isfinite(propensity(np.empty(0, np.int64), 2)).all()
