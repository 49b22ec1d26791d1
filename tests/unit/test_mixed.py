"""Learning in 16 bits: the same path as in float32, near to it, and what overflows is left out."""

import numpy as np
import pytest
import torch

from model_server.ranker.net import Net, NetShape
from model_server.training.mixed import CLIP, Mixed, Wish
from model_server.training.ranks import Ranks
from model_server.training.stages import Passed, batches, listwise_loss
from tests.ranked import FEATURES, fit, plan, without_chance

CPU = torch.device("cpu")
CLOSE = {"bfloat16": 0.002, "float16": 0.03}
"""Of the loss of every stage. bfloat16 errs by 0.4 % a number; of a few steps float16 leaves out the first, which
overflow until its scale is found."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def losses(precision: Wish) -> list[float]:
    found: list[Passed] = []
    with without_chance(plan()._replace(precision=precision)) as still:
        net = fit(Ranks(), still, tick=found.append)
    assert {part.dtype for part in net.parameters()} == {torch.float32}
    return [passed.loss for passed in found]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bits_learn_nearly_what_float32_learns(precision: Wish) -> None:
    full, reduced = losses("float32"), losses(precision)
    assert reduced != full, "it was computed in other numbers"
    np.testing.assert_allclose(reduced, full, rtol=CLOSE[precision])
    assert full[-1] < full[0]


def test_auto_is_float32_where_there_is_no_cuda() -> None:
    assert Mixed("auto", CPU).name == "float32"
    assert not Mixed("auto", CPU).scaler.is_enabled()
    assert not Mixed("bfloat16", CPU).scaler.is_enabled()
    assert losses("auto") == losses("float32")


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_products_are_of_16_bits_and_the_loss_is_not(precision: Wish, dtype: torch.dtype) -> None:
    made = plan()
    batch = next(batches(made.learn, 8, made.judge(CPU), np.random.default_rng(0)))
    with Mixed(precision, CPU).products():
        score, hidden = Net(NetShape(FEATURES)).scored(batch.lists)
    assert (score.dtype, hidden.dtype) == (dtype, dtype)
    assert listwise_loss(score, batch.lists.real, batch.label).dtype == torch.float32


def test_a_step_is_clipped_by_gradients_of_their_own_size() -> None:
    """float16's are scaled up: those of the stage and those that it leaves alone are both scaled down again."""
    norms = []
    wishes: tuple[Wish, ...] = ("float32", "float16")
    for precision in wishes:
        torch.manual_seed(0)
        alone, learned = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
        net, before = torch.nn.Sequential(alone, learned), learned.weight.detach().clone()
        optimiser = torch.optim.SGD(learned.parameters(), 1.0)
        loss = net(torch.ones(3, 4)).square().sum() * 10
        norms.append(float(Mixed(precision, CPU).step(loss, net, optimiser)))
        assert 0 < float((learned.weight.detach() - before).norm()) <= CLIP
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert norms[0] > CLIP


def test_a_step_that_overflows_is_left_out_and_the_scale_comes_down() -> None:
    net, mixed = torch.nn.Linear(2, 1), Mixed("float16", CPU)
    before, scale = net.weight.detach().clone(), mixed.scaler.get_scale()
    mixed.step(net(torch.full((1, 2), 3e38)).sum() * 10, net, torch.optim.SGD(net.parameters(), 1.0))
    assert torch.equal(net.weight, before)
    assert mixed.scaler.get_scale() < scale
