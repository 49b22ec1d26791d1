"""What a score is owed to: shares that sum to it, and are what is known where that is known."""

import numpy as np
import pytest
import torch

from model_server.blend import Blend
from model_server.ranker.because import TRANSFORMER, Because
from model_server.ranker.counter_net import CounterNet
from model_server.scoring import BASE
from model_server.selection import Calibration

GROUPS = {"one": [0, 3], "two": [1], "three": [2, 4]}
FEATURES = 5


def learned(seed: int = 0) -> CounterNet:
    torch.manual_seed(seed)
    net = CounterNet(FEATURES).eval()
    net.learn_scales(np.random.default_rng(seed).gamma(1.0, size=(500, FEATURES)).astype(np.float32))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def score_of(net: CounterNet, counters: np.ndarray) -> float:
    with torch.inference_mode():
        return float(net(torch.from_numpy(counters)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("residual", [False, True])
def test_shares_sum_to_the_score(seed: int, residual: bool) -> None:
    net = learned(seed)
    counters = np.random.default_rng(seed).gamma(2.0, size=FEATURES).astype(np.float32)
    score = score_of(net, counters) + (0.7 if residual else 0.0)
    (owed,) = Because(net, GROUPS, residual=residual)(counters[None], np.array([score], np.float32))
    assert set(owed) == {BASE, *GROUPS, *((TRANSFORMER,) if residual else ())}
    assert sum(owed.values()) == pytest.approx(score, abs=1e-6)
    if residual:
        assert owed[TRANSFORMER] == pytest.approx(0.7, abs=1e-5)


def test_of_a_linear_score_each_share_is_its_own_part() -> None:
    net = learned()
    torch.nn.init.zeros_(net.last.weight)
    counters = np.array([3.0, 1.0, 0.2, 0.1, 2.0], np.float32)
    (owed,) = Because(net, GROUPS, residual=False)(counters[None], np.array([score_of(net, counters)], np.float32))
    with torch.inference_mode():
        parts = (((torch.from_numpy(counters) - net.mean) * net.scale) * net.linear.weight[0]).numpy()
    assert owed[BASE] == pytest.approx(0.0, abs=1e-5)
    for group, places in GROUPS.items():
        assert owed[group] == pytest.approx(parts[places].sum(), abs=1e-5)


def test_a_group_at_its_means_is_owed_nothing_and_the_order_of_two_that_meet_does_not_matter() -> None:
    net = learned()
    counters = net.mean.numpy().copy()
    counters[1] += 2
    (owed,) = Because(net, GROUPS, residual=False)(counters[None], np.array([score_of(net, counters)], np.float32))
    assert (owed["one"], owed["three"]) == (0.0, 0.0)
    assert owed["two"] != 0
    counters[2] += 1
    there, back = (
        Because(net, dict(order), residual=False)(counters[None], np.array([score_of(net, counters)], np.float32))[0]
        for order in (list(GROUPS.items()), list(GROUPS.items())[::-1])
    )
    for part, share in there.items():
        assert back[part] == pytest.approx(share, abs=1e-6)


def test_a_blend_owes_its_score_to_the_lists_that_found_the_item() -> None:
    blend, near = Blend(np.array([1.0, 0.5, 0.0, 2.0], np.float32)), np.array([0.5, 0.0, 1.0, 0.25], np.float32)
    owed = blend.owed(near, ["a", "b", "c", "d"])
    assert owed == {"a": 0.5, "d": 0.5}
    assert sum(owed.values()) == pytest.approx(float(blend.score(near[None, None])[0, 0]))


def test_shares_of_a_score_become_shares_of_the_logit() -> None:
    calibration = Calibration(1.5, -2.0)
    owed = calibration.logit({"a": 0.5, BASE: 0.1, "d": -0.2})
    chance = float(calibration.chance(np.array([0.4], np.float32))[0])
    assert sum(owed.values()) == pytest.approx(np.log(chance / (1 - chance)), abs=1e-5)
    assert calibration.logit({"a": 1.0}) == {"a": 1.5, BASE: -2.0}
