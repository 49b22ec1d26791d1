"""The planted shop draws what its chances say, its null fields say nothing, and nobody is above its oracle."""

from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import pytest

from model_server.evaluation.heuristics import HEURISTICS
from model_server.evaluation.intervals import ratio
from model_server.evaluation.metrics import ranked
from model_server.evaluation.oracle import BLIND, ORACLE, Oracle
from model_server.evaluation.planted import DEVICES, NULL, PLANTED, WEATHERS, Planting, World, code_of
from model_server.evaluation.planted_log import events, log
from model_server.evaluation.ranker import METRIC, Task
from model_server.evaluation.send_time import later, regrets
from model_server.training.config import TrainConfig
from model_server.training.dataset import Dataset, build_dataset
from model_server.training.examples import Examples
from model_server.training.progress import Silent
from model_server.training.recorded import RawEvent, Recorded
from model_server.training.requests import REFRESH_MS, Split, moments, target_kinds
from streams.features.declaration import DEFAULT

SMALL = Planting(users=80, items=120, categories=6, days=28)


@pytest.fixture(scope="module")
def world() -> World:
    return World.plant(SMALL, 3, DEFAULT)


@pytest.fixture(scope="module")
def recorded(world: World) -> Recorded:
    return log(world, DEFAULT)


@pytest.fixture(scope="module")
def dataset(recorded: Recorded) -> Dataset:
    tiny = dataclasses.replace(TrainConfig(split=Split(test=0.3)).quick, lists=50, valid=50, test=400, threads=1)
    return build_dataset(recorded, DEFAULT, tiny, Silent())


def the_test(dataset: Dataset) -> Examples:
    assert dataset.test is not None
    return dataset.test


def scenes(count: int, seed: int = 0) -> np.ndarray:
    """Scenes u8[count, S] with known values in every field that varies."""
    rng = np.random.default_rng(seed)
    made = np.zeros((count, len(DEFAULT.scene_names)), np.uint8)
    for field in (*PLANTED, *NULL):
        made[:, DEFAULT.scene_names.index(field)] = rng.integers(1, DEFAULT.size_of(field), count)
    return made


def test_a_seed_gives_the_same_log_and_another_seed_another(world: World) -> None:
    def first(seed: int) -> list[RawEvent]:
        return list(islice(events(World.plant(SMALL, seed, DEFAULT), DEFAULT), 400))

    assert first(3) == list(islice(events(world, DEFAULT), 400))
    assert first(4) != first(3)


def test_every_event_is_read_and_time_and_scene_arrive(recorded: Recorded) -> None:
    assert recorded.rejected == 0
    assert len(recorded) > 5_000
    for field in (*PLANTED, *NULL):
        codes = recorded.columns.codes[:, DEFAULT.scene_names.index(field)]
        assert codes.min() > 0, field
        assert len(np.unique(codes)) >= 2, field


def test_chances_are_chances_and_follow_the_planted_fields_alone(world: World) -> None:
    user, seen = np.arange(40), scenes(40)
    chance = world.chance(user, seen)
    np.testing.assert_allclose(chance.sum(1), 1)
    for field in PLANTED:
        other = seen.copy()
        column = DEFAULT.scene_names.index(field)
        other[:, column] = np.roll(seen[:, column], 1)
        moved = np.abs(world.chance(user, other) - chance).max(1)
        assert (moved[other[:, column] != seen[:, column]] > 0).any(), field
    for field in NULL:
        other = seen.copy()
        other[:, DEFAULT.scene_names.index(field)] = 0
        np.testing.assert_array_equal(world.chance(user, other), chance)


def test_where_nothing_is_planted_every_scene_has_the_same_chances_and_the_same_people_come(world: World) -> None:
    silent = World.plant(SMALL.nothing, 3, DEFAULT)
    user = np.arange(40)
    np.testing.assert_allclose(silent.chance(user, scenes(40)), silent.chance(user, scenes(40, seed=1)))
    np.testing.assert_array_equal(silent.taste, world.taste)
    np.testing.assert_array_equal(silent.visits, world.visits)


def test_a_category_is_wanted_more_in_its_own_hour_on_its_own_device_and_in_its_own_weather(world: World) -> None:
    hour = world.lifts["hour"][:, 1:]
    np.testing.assert_allclose(hour.max(1) / hour.min(1), np.exp(2 * SMALL.hours))
    assert len(np.unique(hour.argmax(1))) == SMALL.categories
    for number, device in enumerate(DEVICES):
        lift = world.lifts["device"][:, code_of(DEFAULT, "device", device)]
        assert (lift == SMALL.device).sum() == SMALL.categories // len(DEVICES), number
    assert (world.lifts["weather"][:, code_of(DEFAULT, "weather", WEATHERS[1])] == 1).all()


def clicks(world: World, recorded: Recorded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(positions, chances f64[N, categories], category taken) of every click; what was just seen has none."""
    columns, category = recorded.columns, world.category[[int(name[1:]) for name in recorded.item_ids]]
    numbers = np.array([int(name[1:]) for name in recorded.item_ids])
    at = np.flatnonzero(columns.kind == DEFAULT.code("click"))
    users = np.array([int(name[1:]) for name in recorded.user_ids])[recorded.user[at]]
    chance = world.chance(users, columns.codes[at])
    for row, event in enumerate(at.tolist()):
        now = columns.ts_ms[event]
        near = slice(*np.searchsorted(columns.ts_ms, (now - REFRESH_MS + 1, now)))
        own = numbers[recorded.item[near][recorded.user[near] == recorded.user[event]]]
        chance[row, own] = 0
    chance /= chance.sum(1, keepdims=True)
    by_category = np.stack([chance[:, world.category == c].sum(1) for c in range(SMALL.categories)], axis=1)
    return at, by_category, category[recorded.item[at]]


def test_what_is_taken_follows_the_chances_under_every_value_of_every_field(world: World, recorded: Recorded) -> None:
    at, chance, taken = clicks(world, recorded)
    deviations = []
    for field in (*PLANTED, *NULL):
        codes = recorded.columns.codes[at, DEFAULT.scene_names.index(field)]
        for code in np.unique(codes):
            part = codes == code
            for category in range(SMALL.categories):
                expected, spread = chance[part, category].sum(), (chance * (1 - chance))[part, category].sum()
                deviations.append(((taken[part] == category).sum() - expected) / np.sqrt(max(spread, 1)))
    worst = np.abs(deviations).max()
    assert worst < 4.2, f"{len(deviations)} counts, the worst {worst:.1f} deviations off"
    assert 0.85 < np.std(deviations) < 1.15


def test_nothing_is_taken_that_the_visit_has_seen(recorded: Recorded) -> None:
    clicks = (recorded.columns.kind == DEFAULT.code("click")).sum()
    assert len(moments(recorded, DEFAULT, target_kinds(recorded, DEFAULT))) == clicks


def test_nobody_is_above_the_oracle(dataset: Dataset, world: World) -> None:
    task, test = Task(dataset), the_test(dataset)
    oracle = Oracle(world)
    expected = oracle.expected(task, test)
    np.testing.assert_allclose(expected.chance.sum(1), 1)
    fitted = {name: one.score for name, one in oracle.fit(task, 0, lambda _: None).items()}
    popular = next(h for h in HEURISTICS if h.name == "popularity").fit(task, 0, lambda _: None)["popularity"].score
    known, blind, crowd = (expected.of([score]) for score in (fitted[ORACLE], fitted[BLIND], popular))
    for other in (known, blind, crowd, expected.of([popular, fitted[ORACLE]])):
        assert (expected.best >= other - 1e-12).all()
    assert known.mean() > 0.98 * expected.best.mean()
    assert known.mean() > 1.15 * blind.mean()
    assert blind.mean() > 1.15 * crowd.mean()


def test_what_is_expected_is_what_happens_on_average(dataset: Dataset, world: World) -> None:
    task, test = Task(dataset), the_test(dataset)
    oracle = Oracle(world)
    score = oracle.fit(task, 0, lambda _: None)[ORACLE].score
    happened = ranked(score(test), dataset.popularity(test), test.batch.item, test.label, test.wanted)[METRIC]
    expected = oracle.expected(task, test).of([score])
    assert abs(happened.mean() - expected.mean()) < 4 * happened.std() / np.sqrt(len(happened))


def test_a_ratio_of_means_has_its_interval() -> None:
    rng = np.random.default_rng(0)
    over, user = rng.random(400), np.arange(400) // 4
    share, low, high = ratio(0.8 * over, over, 0, user)
    assert share == pytest.approx(0.8)
    assert low == pytest.approx(0.8)
    assert high == pytest.approx(0.8)
    share, low, high = ratio(0.8 * over + rng.normal(0, 0.1, 400), over, 0, user)
    assert low < 0.8 < high
    assert high - low < 0.1


def test_who_knows_the_chances_sends_at_the_best_hour_and_who_reads_them_backwards_at_the_worst(
    dataset: Dataset, world: World
) -> None:
    task, oracle = Task(dataset), Oracle(world)
    truth = oracle.truth(task)

    def known(examples: Examples) -> np.ndarray:
        rows = range(examples.batch.item.shape[1])
        columns = [truth(examples, examples.batch.scene, np.full(len(examples), column)) for column in rows]
        return np.log(np.stack(columns, axis=1))

    lost = regrets(dataset, known, truth, 32)
    assert lost.chosen.max() < 1e-6
    assert lost.now.mean() > 0.02
    assert lost.usual.mean() > 0.02
    # Another item is the best one now, and its share is greatest when it is wanted least.
    backwards = regrets(dataset, lambda examples: -known(examples), truth, 32)
    assert backwards.chosen.mean() > 0.2
    assert backwards.chosen.mean() > backwards.now.mean()


def test_hours_later_wrap_at_midnight_and_take_the_weekday_along(dataset: Dataset) -> None:
    hour, weekday = (DEFAULT.scene_names.index(name) for name in ("hour", "weekday"))
    scene = scenes(1)
    scene[0, [hour, weekday]] = 1 + 22, 7
    moved = later(dataset, scene, 3)
    assert moved[0, [hour, weekday]].tolist() == [1 + 1, 1]
    assert later(dataset, scene, 1)[0, [hour, weekday]].tolist() == [1 + 23, 7]
    assert np.delete(moved[0], [hour, weekday]).tolist() == np.delete(scene[0], [hour, weekday]).tolist()
