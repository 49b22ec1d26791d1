"""Ranking metrics, intervals and exposure against a slow reading of their definitions."""

import math

import numpy as np
import pytest

from model_server.evaluation.exposure import coverage, diversity, gini
from model_server.evaluation.intervals import interval, ratio
from model_server.evaluation.metrics import means, order, ranked


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


def test_no_request_has_mean_zero() -> None:
    assert means({"mrr": np.empty(0)}) == {"mrr": 0.0}
    assert interval(np.empty(0), 0) == (0.0, 0.0)


def test_an_interval_holds_the_mean_and_excludes_what_never_happened() -> None:
    low, high = interval(np.random.default_rng(0).normal(0.3, 1.0, 2_000), 0)
    assert 0.2 < low < 0.3 < high < 0.4


def test_an_interval_by_users_equals_the_slow_bootstrap() -> None:
    rng = np.random.default_rng(3)
    user = rng.integers(0, 40, 300)
    gain = rng.normal(0, 0.1, 300) + rng.normal(0, 1, 40)[user]
    draws = []
    other = np.random.default_rng(5)
    members = [gain[user == u] for u in np.unique(user)]
    for _ in range(1_000):
        drawn = [members[n] for n in other.integers(0, len(members), len(members))]
        draws.append(np.concatenate(drawn).mean())
    np.testing.assert_allclose(interval(gain, 5, user), np.quantile(draws, (0.025, 0.975)))


def test_requests_of_one_user_are_not_taken_for_many_opinions() -> None:
    user = np.repeat(np.arange(20), 50)
    gain = np.random.default_rng(0).normal(0, 1, 20)[user]
    by_request, by_user = interval(gain, 0), interval(gain, 0, user)
    assert by_user[1] - by_user[0] > 5 * (by_request[1] - by_request[0])
    assert interval(gain, 0, user) == by_user


def test_of_several_seeds_an_interval_is_as_wide_as_what_the_next_ones_may_bring() -> None:
    """Without noise of requests, the interval of seeds at hand must hold the mean of all seeds as often as it says."""
    rng, held = np.random.default_rng(1), 0
    for trial in range(200):
        by_seed = np.repeat(rng.normal(0.0, 1.0, (12, 1)), 8, axis=1)
        low, high = interval(by_seed, trial, resamples=300)
        held += low <= 0.0 <= high
        assert interval(by_seed.mean(0), trial, resamples=20) == pytest.approx((by_seed.mean(), by_seed.mean()))
    assert 0.89 < held / 200 < 0.99


def test_of_three_seeds_an_interval_reaches_from_the_worst_to_the_best() -> None:
    by_seed = np.repeat(np.array([[-1.0], [0.2], [1.0]]), 5, axis=1)
    assert interval(by_seed, 0) == pytest.approx((-1.0, 1.0))


def test_of_a_ratio_what_two_rankers_have_of_one_seed_stays_together() -> None:
    rng = np.random.default_rng(2)
    over = rng.uniform(0.5, 1.5, 400) * np.array([[0.6], [1.0], [1.4]])
    user = np.arange(400) // 4
    assert ratio(1.2 * over, over, 0, user) == pytest.approx((1.2, 1.2, 1.2))
    share, low, high = ratio(over, over.mean(0), 0, user)
    assert share == pytest.approx(1.0)
    assert low == pytest.approx(0.6, abs=0.01)
    assert high == pytest.approx(1.4, abs=0.01)


def test_order_takes_whole_numbers_too_large_for_float32() -> None:
    score = np.array([[1_700_000_000_001, 1_700_000_000_002]])
    assert order(score, np.zeros((1, 2), np.float32), np.array([[0, 1]], np.int32)).tolist() == [[1, 0]]


def test_exposure_of_known_lists() -> None:
    even, one = np.array([[0, 1], [2, 3]], np.int32), np.array([[3, -1], [3, -1]], np.int32)
    assert (coverage(even, 4), coverage(one, 4)) == (1.0, 0.25)
    assert gini(even, 4) == 0.0
    assert gini(one, 4) == 0.75
    assert gini(np.full((1, 2), -1, np.int32), 4) == 0.0


def test_diversity_counts_pairs_of_unlike_categories() -> None:
    category = np.array([0, 0, 1, -1], np.int32)
    top = np.array([[0, 1, 2], [0, 1, -1], [0, 3, -1]], np.int32)
    np.testing.assert_allclose(diversity(top, category), [2 / 3, 0.0, np.nan])
