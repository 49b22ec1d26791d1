"""Ranking metrics against a slow reading of their definitions, and baselines against a slow reading of the log."""

import math

import numpy as np

from model_server.evaluation.baselines import BASELINES, Actions, History, evaluate, ranks_of
from model_server.evaluation.metrics import interval, means, of_ranks, ranked


def slow(positions: list[int], wanted: int) -> tuple[float, float, float]:
    """NDCG@10, HR@10 and MRR from the places (1 = best) of the found positives."""
    gained = sum(1 / math.log2(p + 1) for p in positions if p <= 10)
    ideal = sum(1 / math.log2(p + 1) for p in range(1, min(wanted, 10) + 1))
    return gained / ideal, float(any(p <= 10 for p in positions)), 1 / min(positions) if positions else 0.0


def test_metrics_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    score = rng.random((50, 30), np.float32)
    item = np.stack([rng.permutation(30) for _ in range(50)]).astype(np.int32)
    label = rng.random((50, 30)) < 0.1
    wanted = label.sum(1) + rng.integers(0, 3, 50)
    wanted = np.maximum(wanted, 1)
    found = ranked(score, np.zeros_like(score), item, label, wanted)
    for row in range(50):
        places = np.empty(30, int)
        places[np.argsort(-score[row])] = np.arange(1, 31)
        expected = slow(places[label[row]].tolist(), int(wanted[row]))
        np.testing.assert_allclose([found[m][row] for m in ("ndcg@10", "hr@10", "mrr")], expected)


def test_ties_go_to_the_popular_then_to_the_smaller_item() -> None:
    score, popularity = np.ones((1, 3), np.float32), np.array([[1, 2, 2]], np.float32)
    item = np.array([[0, 8, 5]], np.int32)
    label = np.array([[False, False, True]])
    assert ranked(score, popularity, item, label, np.array([1]))["mrr"][0] == 1
    assert ranked(score, popularity, item, label[:, [2, 0, 1]], np.array([1]))["mrr"][0] == 1 / 3


def test_a_missed_positive_counts_against_ndcg() -> None:
    label = np.array([[True, False]])
    score, item = np.array([[2.0, 1.0]], np.float32), np.array([[0, 1]], np.int32)
    whole = ranked(score, score, item, label, np.array([1]))["ndcg@10"][0]
    missed = ranked(score, score, item, label, np.array([2]))["ndcg@10"][0]
    assert whole == 1
    assert missed < 0.7


def test_ranks_and_lists_agree() -> None:
    assert of_ranks(np.array([2, 11])) == dict(zip(("ndcg@10", "hr@10", "mrr"), slow([2, 11], 2), strict=True))


def test_no_request_has_mean_zero() -> None:
    assert means({"mrr": np.empty(0)}) == {"mrr": 0.0}
    assert interval(np.empty(0), 0) == (0.0, 0.0)


def test_an_interval_holds_the_mean_and_excludes_what_never_happened() -> None:
    low, high = interval(np.random.default_rng(0).normal(0.3, 1.0, 2_000), 0)
    assert 0.2 < low < 0.3 < high < 0.4


def actions() -> Actions:
    rng = np.random.default_rng(1)
    ts_ms = np.sort(rng.integers(0, 40 * 86_400_000, 500))
    return Actions(ts_ms, rng.integers(0, 5, 500), rng.integers(0, 12, 500), 5, 12)


def test_baselines_see_only_what_came_strictly_before() -> None:
    log = actions()
    history = History(log)
    now_ms = int(log.ts_ms[300])
    for name, days in (("popularity 24 h", 1), ("popularity 7 d", 7), ("popularity", 10_000)):
        expected = np.zeros(12)
        for ts_ms, item in zip(log.ts_ms.tolist(), log.item.tolist(), strict=True):
            expected[item] += now_ms - days * 86_400_000 <= ts_ms < now_ms
        assert BASELINES[name](history, 0, now_ms).tolist() == expected.tolist()
    own = np.zeros(12)
    for ts_ms, user, item in zip(log.ts_ms.tolist(), log.user.tolist(), log.item.tolist(), strict=True):
        own[item] += user == 3 and ts_ms < now_ms
    assert BASELINES["user frequency"](history, 3, now_ms).tolist() == own.tolist()


def test_ties_of_a_baseline_go_by_the_given_order() -> None:
    assert ranks_of(np.array([1.0, 1.0, 2.0]), np.array([1, 0, 2]), np.array([0, 1, 2])).tolist() == [3, 2, 1]


def test_every_baseline_is_judged_at_every_request() -> None:
    log = actions()
    found = evaluate(History(log), np.array([0, 1]), log.ts_ms[[100, 200]], [np.array([3]), np.array([4, 5])])
    assert set(found) == set(BASELINES)
    assert all(len(values) == 2 for metrics in found.values() for values in metrics.values())
