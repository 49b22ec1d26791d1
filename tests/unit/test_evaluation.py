"""Parts of the harness against slow readings: what came before, heuristics, EASE, permuted and wrong scenes."""

import dataclasses

import numpy as np
import pytest

from model_server.evaluation.before import Before
from model_server.evaluation.ease import Ease, Weights, closed_form, renewals
from model_server.evaluation.groups import word_of
from model_server.evaluation.harness import EvaluationError, checked
from model_server.evaluation.heuristics import HEURISTICS
from model_server.evaluation.ranker import Task
from model_server.evaluation.scene import (
    OTHERS,
    PLACEBOS,
    balanced,
    contrasts,
    permutation,
    placebo,
    same_visit,
    without_scene,
)
from model_server.evaluation.trained import Nets
from model_server.training.config import TrainConfig
from model_server.training.dataset import Dataset, TrainingError, build_dataset
from model_server.training.examples import Examples
from model_server.training.progress import Silent
from model_server.training.requests import Split
from streams.features.declaration import DEFAULT
from tests.shoplog import recorded

DAY_MS = 86_400_000
TINY = dataclasses.replace(TrainConfig(split=Split(test=0.1)).quick, lists=150, valid=60, test=100, width=40)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_dataset(recorded(5, users=20, items=40, events=1_200), DEFAULT, TINY, Silent())


def the_test(dataset: Dataset) -> Examples:
    assert dataset.test is not None
    return dataset.test


def test_before_equals_a_slow_reading() -> None:
    rng = np.random.default_rng(0)
    key, ts_ms = rng.integers(0, 9, 300) * 7, 1_700_000_000_000 + rng.integers(0, 40, 300) * DAY_MS // 4
    before = Before(key, ts_ms)
    asked = np.arange(-1, 70)
    for now_ms in (int(ts_ms.min()), int(ts_ms[17]), int(ts_ms.max()) + 1, 0, 2**50):
        now = np.full(len(asked), now_ms)
        past = [ts_ms[(key == k) & (ts_ms < now_ms)] for k in asked]
        week = [p[p >= now_ms - 7 * DAY_MS] for p in past]
        halved = [np.sum(0.5 ** ((now_ms - p) / DAY_MS)) for p in past]
        assert before.count(asked, now).tolist() == [len(p) for p in past]
        assert before.count(asked, now, 7 * DAY_MS).tolist() == [len(p) for p in week]
        assert before.last_ms(asked, now).tolist() == [p.max(initial=0) for p in past]
        np.testing.assert_allclose(before.decayed(asked, now, DAY_MS), halved)


def test_nothing_came_before_nothing() -> None:
    before = Before(np.empty(0, np.int64), np.empty(0, np.int64))
    asked, now = np.array([[1, 2]]), np.array([[5]])
    for found in (before.count(asked, now), before.last_ms(asked, now), before.decayed(asked, now, DAY_MS)):
        assert found.tolist() == [[0, 0]]


def slow(dataset: Dataset, name: str, user: int, item: int, now_ms: int) -> float:
    """A heuristic's score by going through the whole log."""
    columns = dataset.recorded.columns
    kinds = np.array([kind.active and kind.item for kind in DEFAULT.kinds])[columns.kind]
    of_item = kinds & (dataset.recorded.item == item) & (columns.ts_ms < now_ms)
    if name.startswith("user"):
        of_item &= dataset.recorded.user == user
    stamps = columns.ts_ms[of_item]
    spans = {"popularity 1 h": DAY_MS // 24, "popularity 24 h": DAY_MS, "popularity 7 d": 7 * DAY_MS}
    if name in ("last seen by anyone", "user recency"):
        return float(stamps.max(initial=0))
    return float((stamps >= now_ms - spans.get(name, now_ms)).sum())


@pytest.mark.parametrize(
    "name",
    [
        "popularity",
        "popularity 1 h",
        "popularity 24 h",
        "popularity 7 d",
        "last seen by anyone",
        "user frequency",
        "user recency",
    ],
)
def test_heuristics_see_only_what_came_strictly_before(dataset: Dataset, name: str) -> None:
    heuristic, task, test = next(h for h in HEURISTICS if h.name == name), Task(dataset), the_test(dataset)
    score = heuristic.fit(task, 0, lambda _: None)[name].score(test)
    for row in (0, len(test) // 2, len(test) - 1):
        user, now_ms = int(task.user(test)[row]), int(task.now_ms(test)[row])
        for column in np.flatnonzero(test.batch.item[row] >= 0)[::5].tolist():
            item = int(test.batch.item[row, column])
            assert score[row, column] == slow(dataset, name, user, item, now_ms), (row, column)


def test_every_heuristic_scores_every_candidate_and_the_setting_is_chosen_on_valid(dataset: Dataset) -> None:
    task = Task(dataset)
    for heuristic in HEURISTICS:
        fitted = heuristic.fit(task, 0, lambda _: None)[heuristic.name]
        assert fitted.score(the_test(dataset)).shape == the_test(dataset).label.shape
        options = heuristic.options(task)
        if len(options) > 1:
            assert task.value(fitted.score) == max(task.value(option) for option in options.values())


def test_ease_solves_its_regression() -> None:
    rng = np.random.default_rng(2)
    taken = (rng.random((30, 6)) < 0.4).astype(np.float64)
    found = closed_form((taken.T @ taken).astype(np.float32), 3.0)
    for item in range(6):
        others = [i for i in range(6) if i != item]
        x = taken[:, others]
        weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(5), x.T @ taken[:, item])
        np.testing.assert_allclose(found[others, item], weights, atol=1e-5)
        assert found[item, item] == 0


def test_ease_is_built_of_the_past_and_renewed_in_the_test(dataset: Dataset) -> None:
    task, test = Task(dataset), the_test(dataset)
    fitted = Ease().fit(task, 0, lambda _: None)["EASE"]
    start_ms = renewals(task)
    assert start_ms[0] == dataset.chosen.learned_until_ms
    assert start_ms[1] == task.now_ms(test)[0]
    ridge, own = fitted.chosen["ridge"], fitted.chosen["own items"]
    first = test.at(np.arange(3))
    expected = Weights.until(task, int(start_ms[1]), ridge).having(own).score(first)
    np.testing.assert_array_equal(fitted.score(first), expected)


def test_scenes_come_from_another_visit_of_the_user_where_there_is_one() -> None:
    user = np.array([3, 1, 3, 2, 3, 1, 3, 2])
    ts_ms = 60_000 * np.array([0, 0, 10, 0, 100, 200, 30, 9])  # two visits of user 3, two of user 1, one of user 2
    visit = np.array([0, 0, 0, 0, 1, 1, 0, 0])
    for seed in range(5):
        other = permutation(user, ts_ms, user, seed)
        assert (user[other] == user).all()
        assert (visit[other] != visit)[user != 2].all()
        assert other[user == 2].tolist() == [3, 7]
        assert (same_visit(user, ts_ms, other) == (user == 2)).all()
    many = np.repeat(np.arange(50), 8)
    hours = np.tile(np.arange(8), 50) * 3_600_000
    assert sorted(permutation(many, hours, many, 1)) == list(range(400))


def test_scenes_of_others_come_from_the_same_week_and_keep_no_habit() -> None:
    rng = np.random.default_rng(4)
    user, day = rng.integers(0, 200, 4_000), rng.integers(0, 28, 4_000)
    ts_ms = day * 86_400_000 + 3_600_000 * rng.integers(0, 24, 4_000)
    other = permutation(user, ts_ms, day // 7, 1)
    assert (day[other] // 7 == day // 7).mean() > 0.99  # a visit over midnight may end in the next week
    assert not same_visit(user, ts_ms, other).any()
    device = user % 2  # all habit
    assert (device[permutation(user, ts_ms, user, 1)] == device).all()
    assert 0.45 < (device[other] == device).mean() < 0.55


@pytest.mark.parametrize("name", PLACEBOS)
def test_a_placebo_changes_the_scene_and_what_is_counted_under_it(dataset: Dataset, name: str) -> None:
    built = placebo(dataset, name, 0)
    names = dataset.preparation.counters.names
    hour = names.index("hour_sin")
    assert built.changed > 0.9
    kept = np.isin(dataset.learn.request, built.learn.request)
    assert kept.mean() > 0.9
    column = DEFAULT.scene_names.index("hour")
    before, after = dataset.learn.batch.scene[kept], built.learn.batch.scene
    assert (before[:, column] != after[:, column]).mean() > 0.5
    angle = np.sin(2 * np.pi / 24 * (after[:, column].astype(float) - 1))
    np.testing.assert_allclose(built.learn.batch.counters[:, 0, hour], angle, atol=1e-6)


@pytest.mark.parametrize("name", PLACEBOS)
def test_a_placebo_is_chosen_by_requests_under_wrong_scenes_too(dataset: Dataset, name: str) -> None:
    right, wrong = dataset.valid, placebo(dataset, name, 0).valid
    assert wrong.request.tolist() == right.request.tolist()
    column = DEFAULT.scene_names.index("hour")
    hours = right.batch.scene[:, column], wrong.batch.scene[:, column]
    assert (hours[0] != hours[1]).mean() > 0.5
    angle = np.sin(2 * np.pi / 24 * (hours[1].astype(float) - 1))
    found = wrong.batch.counters[:, 0, dataset.preparation.counters.names.index("hour_sin")]
    np.testing.assert_allclose(found, angle, atol=1e-6)


def test_the_passes_of_a_placebo_are_those_that_are_best_by_its_own_requests(dataset: Dataset) -> None:
    task, built = Task(dataset), placebo(dataset, OTHERS, 0)
    untold = Examples(built.valid.batch, np.zeros_like(built.valid.label), built.valid.wanted, built.valid.request)
    kept = []
    for valid in (built.valid, untold):
        task.placebos[OTHERS] = built._replace(valid=valid)
        kept.append(Nets(False, OTHERS).fit(task, 0, lambda _: None)[f"counter net, {OTHERS}"].chosen["pass kept"])
    assert kept[0] > kept[1] == 0  # where nothing is told, no pass is better than none


def test_a_placebo_says_how_often_its_values_are_the_right_ones(dataset: Dataset) -> None:
    own, others = (placebo(dataset, name, 0).alike for name in PLACEBOS)
    column = DEFAULT.scene_names.index("device")
    right = dataset.learn.batch.scene[:, column]
    shares = np.bincount(right[right > 0]) / (right > 0).sum()
    assert own["device"].by_chance == others["device"].by_chance == pytest.approx((shares**2).sum())
    assert own["device"].given > 0.9  # in this log everybody has one
    assert abs(others["device"].given - others["device"].by_chance) < 0.1


def test_without_scene_nothing_tells_two_scenes_apart(dataset: Dataset) -> None:
    found = contrasts(dataset, 60, 0)
    assert {"hour", "device"} <= {contrast.field for contrast in found}
    for contrast in found:
        column = DEFAULT.scene_names.index(contrast.field)
        right, wrong = contrast.right, contrast.wrong
        assert len(right) == len(wrong) > 0
        assert (right.batch.scene[:, column] != wrong.batch.scene[:, column]).all()
        assert (wrong.batch.scene[:, column] > 0).all()
        assert (right.batch.item == wrong.batch.item).all()
        blind = [without_scene(dataset, part).batch for part in (right, wrong)]
        np.testing.assert_array_equal(blind[0].counters, blind[1].counters)
        np.testing.assert_array_equal(blind[0].past.hour, blind[1].past.hour)
    hour = next(contrast for contrast in found if contrast.field == "hour")
    assert (hour.right.batch.counters != hour.wrong.batch.counters).any()


def test_pairs_of_values_come_as_often_one_way_round_as_the_other() -> None:
    right = np.array([1, 1, 2, 1, 3, 2, 1], np.uint8)
    wrong = np.array([2, 2, 1, 2, 1, 1, 3], np.uint8)
    assert balanced(right, wrong).tolist() == [1, 2, 3, 4, 5, 6]
    assert balanced(right[:2], wrong[:2]).tolist() == []


def test_a_score_that_likes_a_common_value_whatever_the_item_tells_no_scenes_apart(dataset: Dataset) -> None:
    for contrast in contrasts(dataset, 100, 0):
        column = DEFAULT.scene_names.index(contrast.field)
        worth = np.random.default_rng(1).permutation(256)
        right, wrong = (worth[part.batch.scene[:, column]] for part in (contrast.right, contrast.wrong))
        assert (right > wrong).mean() == 0.5


def test_the_right_side_of_a_contrast_is_the_candidate_as_it_was_counted(dataset: Dataset) -> None:
    test, contrast = the_test(dataset), contrasts(dataset, len(the_test(dataset)), 0)[0]
    for row in range(0, len(contrast.right), 7):
        at = int(np.flatnonzero(test.request == contrast.right.request[row])[0])
        column = int(np.flatnonzero(test.batch.item[at] == contrast.right.batch.item[row, 0])[0])
        assert test.label[at, column]
        names = dataset.preparation.counters.names  # the repeat share comes from co-visited items of another moment
        lift = [i for i, n in enumerate(names) if n.startswith("scene_lift_")]  # so do the lifts of categories
        own = [i for i, n in enumerate(names) if n.startswith(("item_", "scene_", "own_")) and n != "item_repeat"]
        right, counted = contrast.right.batch.counters[row, 0], test.batch.counters[at, column]
        exact = sorted(set(own) - set(lift))
        np.testing.assert_array_equal(right[exact], counted[exact])
        np.testing.assert_allclose(right[lift], counted[lift], atol=0.05)


def test_an_empty_test_and_a_single_class_are_sentences(dataset: Dataset) -> None:
    with pytest.raises(EvaluationError, match="no request is left to test on: raise --test"):
        checked(dataclasses.replace(dataset, test=None))
    test = the_test(dataset)
    all_taken = Examples(test.batch, test.batch.item >= 0, test.wanted, test.request)
    with pytest.raises(EvaluationError, match="at the test requests every candidate was taken, a single class"):
        checked(dataclasses.replace(dataset, test=all_taken))
    none_taken = Examples(test.batch, np.zeros_like(test.label), test.wanted, test.request)
    with pytest.raises(EvaluationError, match="at the valid requests no candidate was taken"):
        checked(dataclasses.replace(dataset, valid=none_taken))
    assert checked(dataset) is test


def test_what_happens_at_one_moment_is_on_one_side_of_a_split() -> None:
    log = recorded(5, users=20, items=40, events=400)
    daily = dataclasses.replace(log, columns=log.columns._replace(ts_ms=log.columns.ts_ms // DAY_MS * DAY_MS))
    with pytest.raises(TrainingError, match="too few to learn from"):
        build_dataset(daily, DEFAULT, TINY, Silent())


def test_values_of_a_scene_have_words() -> None:
    assert word_of(DEFAULT, "hour", 1) == "00"
    assert word_of(DEFAULT, "device", 2) == "tablet"
    assert word_of(DEFAULT, "region", 5) == "#5"
