"""The blend and what its scores mean: weights that fit, a floor before any training, calibrated chances."""

import numpy as np
import pytest

from model_server.blend import DEFAULT_WEIGHTS, Blend, best_blend, default_blend, fit_blend
from model_server.evaluation.metrics import Ndcg, means, ranked
from model_server.retrieval.merge import nearness
from model_server.retrieval.retriever import Retriever
from model_server.selection import Calibration, fit_calibration
from streams.features.declaration import DEFAULT


def planted(lists: int, told: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of which only the first says what is taken."""
    rng = np.random.default_rng(0)
    near = rng.random((400, 20, lists), np.float32)
    label = np.zeros((400, 20), bool)
    label[np.arange(400), (4 * near[..., told] + rng.gumbel(size=(400, 20))).argmax(1)] = True
    return near, np.ones((400, 20), bool), label


def test_every_default_list_has_a_weight() -> None:
    assert set(Retriever(DEFAULT).names) == set(DEFAULT_WEIGHTS)


def test_a_list_nobody_knows_still_counts() -> None:
    assert default_blend(["a new list"]).weights[0] > 0


def test_the_list_that_tells_gets_the_weight() -> None:
    near, real, label = planted(4, 2)
    fitted = fit_blend(near, real, label, Blend(np.full(4, 0.3, np.float32)))
    others = np.delete(fitted.weights, 2)
    assert fitted.weights[2] > 2.5
    assert (others >= 0).all()
    assert others.max() < 0.8


def test_padding_and_untold_lists_do_not_matter() -> None:
    near, real, label = planted(3, 0)
    more_near = np.concatenate((near, np.full((400, 2, 3), 9, np.float32)), axis=1)
    more_real = np.concatenate((real, np.zeros((400, 2), bool)), axis=1)
    more_label = np.concatenate((label, np.zeros((400, 2), bool)), axis=1)
    start = Blend(np.full(3, 0.3, np.float32))
    np.testing.assert_allclose(
        fit_blend(near, real, label, start).weights,
        fit_blend(more_near, more_real, more_label, start).weights,
        rtol=1e-4,
    )
    nothing = fit_blend(near, real, np.zeros_like(label), start)
    assert nothing is start


def told(near: np.ndarray, label: np.ndarray, seed: int) -> Ndcg:
    """NDCG@10 where some of what was taken was never found."""
    rng = np.random.default_rng(seed)
    item = np.tile(np.arange(label.shape[1], dtype=np.int32), (len(label), 1))
    popularity = rng.random(label.shape).astype(np.float32)
    return Ndcg(popularity, item, label, label.sum(1) + rng.integers(0, 3, len(label)))


@pytest.mark.parametrize("seed", range(4))
def test_a_blend_is_below_none_of_its_lists_and_of_its_starts(seed: int) -> None:
    """Places of lists that are full of ties, where the likeliest weights are not the best ones."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(0.7, (200, 30)) * (rng.random((200, 30)) < 0.5)
    places = [np.argsort(np.argsort(-(count + noise), axis=1), axis=1) for noise in rng.random((5, 200, 30))]
    near = np.stack([np.where(count > 0, nearness(place), 0) for place in places[:4]], axis=2).astype(np.float32)
    near = np.concatenate((near, nearness(places[4])[..., None]), axis=2)
    label = rng.random((200, 30)) < 0.02 + 0.1 * count
    value = told(near, label, seed)
    start = Blend(rng.random(5).astype(np.float32))
    likeliest = fit_blend(near, np.ones_like(label), label, start)
    best = value(best_blend(near, (start, likeliest), value).score(near))
    assert best >= max(value(near[..., column]) for column in range(5))
    assert best >= max(value(start.score(near)), value(likeliest.score(near))) - 1e-6
    assert best > value(likeliest.score(near))


def test_the_quick_metric_is_the_metric() -> None:
    rng = np.random.default_rng(1)
    label = rng.random((60, 40)) < 0.1
    item = np.where(rng.random((60, 40)) < 0.8, rng.permuted(np.tile(np.arange(40), (60, 1)), axis=1), -1).astype(
        np.int32
    )
    label &= item >= 0
    popularity, wanted = rng.integers(0, 4, (60, 40)).astype(np.float32), label.sum(1) + rng.integers(0, 2, 60)
    value = Ndcg(popularity, item, label, wanted)
    for score in (rng.random((60, 40)), rng.integers(0, 3, (60, 40)), np.zeros((60, 40))):
        assert value(score) == pytest.approx(means(ranked(score, popularity, item, label, wanted))["ndcg@10"])


def test_chances_are_those_that_were_planted() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(2, 3, (500, 40)).astype(np.float32)
    truth = Calibration(0.7, -3.0)
    label = rng.random(score.shape) < truth.chance(score)
    fitted = fit_calibration(score, np.ones_like(label), label)
    assert abs(fitted.slope - 0.7) < 0.05
    assert abs(fitted.shift + 3.0) < 0.1


def test_a_single_class_gives_a_small_chance_instead_of_a_fit() -> None:
    score = np.zeros((3, 4), np.float32)
    for label in (np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        assert 0 < fit_calibration(score, np.ones((3, 4), bool), label).chance(score).max() < 0.1


def test_higher_scores_never_mean_lower_chances() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=(50, 20)).astype(np.float32)
    label = rng.random(score.shape) < 1 / (1 + np.exp(score))
    assert fit_calibration(score, np.ones_like(label), label).slope > 0
