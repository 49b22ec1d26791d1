"""Figures of chances against their definitions, on numbers small enough to do by hand."""

import numpy as np
import pytest

from model_server.evaluation.calibration import auc, bins, ece, field_ece, judged, logloss, weighted_brier
from model_server.heads.grades import Chances


def test_l_is_the_weighted_mean_of_squares() -> None:
    expected, grade = np.array([0.5, 0.0, 1.0]), np.array([1.0, 0.0, 0.5])
    assert weighted_brier(expected, grade, np.array([1.0, 5.0, 2.0])) == pytest.approx((0.25 + 0 + 0.5) / 8)


def test_logloss_is_that_of_the_definition_and_finite_at_the_ends() -> None:
    assert logloss(np.array([0.25, 0.5]), np.array([1.0, 0.0])) == pytest.approx((np.log(4) + np.log(2)) / 2)
    assert np.isfinite(logloss(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_auc_counts_pairs_ties_as_halves() -> None:
    rng = np.random.default_rng(0)
    chance, label = rng.integers(0, 6, 80) / 10, rng.random(80) < 0.3
    pairs = np.sign(chance[label][:, None] - chance[~label]) / 2 + 0.5
    assert auc(chance, label) == pytest.approx(pairs.mean())
    assert auc(chance, np.ones(80, np.bool_)) is None


def test_true_chances_have_no_calibration_error_and_shifted_ones_have_their_shift() -> None:
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.2, 0.8, 200_000)
    label = (rng.random(len(chance)) < chance).astype(float)
    assert ece(chance, label) < 0.005
    assert ece(chance + 0.1, label) == pytest.approx(0.1, abs=0.005)
    assert sum(part["candidates"] for part in bins(chance, label)) == len(chance)


def test_what_is_off_in_two_fields_in_opposite_ways_shows_by_field_alone() -> None:
    code, label = np.repeat([0, 1], 1_000), np.tile([0.0, 1.0], 1_000)
    chance = np.where(code == 0, 0.4, 0.6)
    assert field_ece(chance, label, np.zeros(2_000, np.int64)) == pytest.approx(0, abs=1e-12)
    assert field_ece(chance, label, code) == pytest.approx(0.1)


def test_all_figures_of_a_single_class_are_numbers_or_absent() -> None:
    told = judged(Chances(np.full(4, 0.1), np.full(4, 0.01)), np.zeros(4), np.ones(4), {"slot": np.arange(4)})
    assert told["auc"] is told["auc best"] is None
    assert told["L"] == pytest.approx(0.055**2)
    assert told["field ece"]["slot"] == pytest.approx(0.1)
