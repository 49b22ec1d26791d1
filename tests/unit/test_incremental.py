"""What an incremental training learns from, when the world drifted, and which bundle may replace the one in force."""

import dataclasses

import numpy as np
import pytest
import torch

from model_server.ranker.encoder import EncoderShape
from model_server.ranker.net import Net, NetShape
from model_server.training.config import TrainConfig
from model_server.training.dataset import TrainingError
from model_server.training.drift import drifts
from model_server.training.gate import Side, calibration_error, passed
from model_server.training.incremental import grown
from model_server.training.slices import DAY_MS, HOUR_MS, Slicing, new_moments, spread, strata
from streams.features.declaration import DEFAULT
from tests.shoplog import recorded

CONFIG = dataclasses.replace(TrainConfig(), lists=300, valid=100)
LOG = recorded(3, users=25, items=80, events=2_500)
LEARNED_MS = int(LOG.columns.ts_ms[1_500])


def test_new_moments_are_learned_calibrated_and_gated_in_the_order_of_time() -> None:
    slicing = Slicing(gate_least=60)
    chosen = new_moments(LOG, DEFAULT, CONFIG, slicing, LEARNED_MS)
    stamps = chosen.moments.ts_ms
    old, new = (chosen.train[stamps[chosen.train] < LEARNED_MS], chosen.train[stamps[chosen.train] >= LEARNED_MS])
    assert len(old) == len(new) <= CONFIG.lists / 2 + CONFIG.valid
    assert stamps[new[0]] >= LEARNED_MS
    assert stamps[chosen.train].tolist() == sorted(stamps[chosen.train].tolist())
    assert stamps[new[-1]] < stamps[chosen.valid[0]]
    assert stamps[chosen.valid[-1]] < stamps[chosen.test[0]]
    assert len(chosen.test) >= 60
    assert chosen.test[-1] == len(stamps) - 1
    assert len(chosen.valid) == pytest.approx(0.25 * (len(chosen.valid) + len(new)), abs=3)
    assert chosen.learned_until_ms == stamps[chosen.valid[0]]


def test_the_gate_is_the_newest_hour_where_that_has_enough() -> None:
    chosen = new_moments(LOG, DEFAULT, CONFIG, Slicing(gate_ms=30 * HOUR_MS, gate_least=5), LEARNED_MS)
    stamps = chosen.moments.ts_ms
    assert stamps[chosen.test[0]] >= stamps[-1] - 30 * HOUR_MS > stamps[chosen.valid[-1]]


def test_too_little_that_is_new_is_said() -> None:
    with pytest.raises(TrainingError, match="too few to learn from"):
        new_moments(LOG, DEFAULT, CONFIG, Slicing(), int(LOG.columns.ts_ms[-40]))
    with pytest.raises(TrainingError, match="0 moments since"):
        new_moments(LOG, DEFAULT, CONFIG, Slicing(), int(LOG.columns.ts_ms[-1]) + 1)


def test_old_requests_of_every_sort_are_drawn() -> None:
    rng = np.random.default_rng(0)
    stratum = np.repeat([0, 1, 2], [1_000, 40, 5])
    drawn = spread(stratum, 90, rng)
    assert np.bincount(stratum[drawn]).tolist() == [45, 40, 5]
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert spread(stratum, 5_000, rng).tolist() == list(range(1_045))
    assert spread(stratum, 0, rng).tolist() == []


def test_moments_of_one_sort_are_alike_in_age_daypart_and_weekend() -> None:
    saturday_noon = 1_700_000_000_000 // DAY_MS * DAY_MS + (18 - 14) * DAY_MS + 12 * HOUR_MS  # 18 November 2023
    now_ms = saturday_noon + 20 * DAY_MS
    same = strata(np.array([saturday_noon, saturday_noon + HOUR_MS]), now_ms)
    assert same[0] == same[1]
    for other in (saturday_noon + 8 * HOUR_MS, saturday_noon - DAY_MS, saturday_noon + 14 * DAY_MS):
        assert strata(np.array([other]), now_ms)[0] != same[0]


def test_a_drift_is_found_soon_after_it_and_none_where_nothing_changed() -> None:
    rng = np.random.default_rng(5)
    stamps = np.arange(4_000) * 1_000
    steady = rng.beta(2, 3, 4_000)
    assert drifts(steady, stamps) == []
    fallen = np.concatenate([steady[:2_000], 0.6 * steady[2_000:]])
    found = drifts(fallen, stamps)
    assert 2_000_000 <= found[0].at_ms < 2_400_000
    assert found[0].worse
    assert found[0].before == pytest.approx(0.4, abs=0.03)
    assert not drifts(1 - fallen, stamps)[0].worse


def side(ndcg: float, ece: float) -> Side:
    return Side(np.full(100, ndcg), ece)


def test_the_gate_lets_pass_what_is_not_worse() -> None:
    user, in_force = np.arange(100), side(0.5, 0.004)
    for new, refused in (
        (side(0.52, 0.004), ""),
        (side(0.498, 0.005), ""),
        (side(0.49, 0.001), "it ranks worse"),
        (side(0.6, 0.007), "its probabilities are further off"),
    ):
        gate = passed(new, in_force, user, 0, 0)
        assert gate.why_not.startswith(refused)
        assert bool(gate.why_not) == bool(refused)
        assert gate.low <= gate.ndcg - gate.ndcg_in_force + 1e-9


def test_the_error_of_probabilities_is_that_of_their_frequencies() -> None:
    rng = np.random.default_rng(1)
    chance = rng.uniform(0, 0.4, 200_000).astype(np.float32)
    happened = rng.random(200_000) < chance
    assert calibration_error(chance, happened) < 0.005
    assert calibration_error(np.float32(0.5) * chance, happened) == pytest.approx(0.1, abs=0.01)
    assert calibration_error(chance[:0], happened[:0]) == 0


def test_new_ids_begin_as_the_unknown_and_old_ones_stay_themselves() -> None:
    shape = EncoderShape(
        features=3, words=3, kinds=2, window_kinds=1, windows=1, scene_sizes=(4, 4), history=4, hidden=8
    )
    torch.manual_seed(0)
    net = Net(NetShape(3, shape))
    words, more = np.array([20, 40], np.uint64), np.array([10, 20, 30, 40], np.uint64)
    wider = grown(net, words, more)
    assert wider.encoder is not None
    assert net.encoder is not None
    old, new = net.encoder.word.weight, wider.encoder.word.weight
    assert torch.equal(new[[0, 2, 4]], old[[0, 1, 2]])
    assert torch.equal(new[[1, 3]], old[[0, 0]])
    assert wider.shape.encoder is not None
    assert wider.shape.encoder.words == 5
    assert grown(net, words, words) is net
