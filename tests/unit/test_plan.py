"""What processes of a training share, and how they part a batch: the mean over all lists is nobody's mean of means."""

import numpy as np
import pytest
import torch

from model_server.ranker.net import Net, NetShape
from model_server.training.launch import ended, in_company
from model_server.training.plan import Plan, _arrays
from model_server.training.ranks import Ranks
from model_server.training.stages import batches, listwise_loss
from tests.ranked import FEATURES, LISTS, drawn, plan

CPU = torch.device("cpu")


def one_of(rank: int, world: int) -> Ranks:
    ranks = Ranks()
    ranks.rank, ranks.world = rank, world
    return ranks


def test_a_plan_arrives_as_it_was_sent() -> None:
    sent, got = plan(), Plan.unpacked(plan().packed())
    for name in ("shape", "stages", "seed", "history", "precision", "threads"):
        assert getattr(got, name) == getattr(sent, name)
    arrived, original = (_arrays("learn", made.learn) | _arrays("valid", made.valid) for made in (got, sent))
    assert arrived.keys() == original.keys()
    assert len(original) == 2 * (3 + 7 + 7)
    for name, column in original.items():
        assert arrived[name].dtype == column.dtype
        np.testing.assert_array_equal(arrived[name], column)
    np.testing.assert_array_equal(got.popularity, sent.popularity)


def test_a_plan_without_an_encoder_arrives_too() -> None:
    alone = plan()._replace(shape=NetShape(FEATURES), stages=plan().stages[:2])
    assert Plan.unpacked(alone.packed()).shape == alone.shape


@pytest.mark.parametrize("world", [2, 3, 20])
def test_every_list_is_in_the_part_of_one_process_and_all_take_every_step(world: int) -> None:
    judge = plan().judge(CPU)
    whole = list(batches(drawn(LISTS), 16, judge, np.random.default_rng(5)))
    parts = [list(batches(drawn(LISTS), 16, judge, np.random.default_rng(5), one_of(r, world))) for r in range(world)]
    assert {len(part) for part in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        assert batch.whole == len(batch.label)
        assert all(part[step].whole == batch.whole for part in parts)
        assert sum(float(part[step].weight.sum()) for part in parts) == batch.whole
        counted = torch.cat([part[step].lists.counters[part[step].weight > 0] for part in parts])
        assert sorted(counted.sum((1, 2)).tolist()) == sorted(batch.lists.counters.sum((1, 2)).tolist())


@pytest.mark.parametrize("world", [2, 3, 5])
def test_the_mean_of_all_gradients_is_that_of_the_whole_batch(world: int) -> None:
    judge, net = plan().judge(CPU), Net(NetShape(FEATURES)).eval()

    def gradient(ranks: Ranks) -> torch.Tensor:
        net.zero_grad()
        batch = next(batches(drawn(7), 7, judge, np.random.default_rng(5), ranks))
        loss = (listwise_loss(net(batch.lists), batch.lists.real, batch.label) * batch.weight).sum()
        torch.autograd.backward(loss * ranks.world / batch.whole)
        assert net.base.linear.weight.grad is not None
        return net.base.linear.weight.grad.clone()

    mean = torch.stack([gradient(one_of(rank, world)) for rank in range(world)]).mean(0)
    torch.testing.assert_close(mean, gradient(Ranks()), rtol=1e-5, atol=1e-7)


def test_a_process_is_in_company_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, world, expected in ((None, None, False), ("0", "1", False), (None, "2", False), ("1", "2", True)):
        for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        assert in_company() == expected


@pytest.mark.parametrize(
    ("statuses", "status", "said"),
    [
        ({0: 1, 1: -15}, 1, ""),
        ({0: -15, 1: 78}, 78, ""),
        ({0: -15, 1: -9}, 1, "Process 1 of the 2 of this training was ended by SIGKILL"),
        ({0: 1, 1: -9}, 1, "Process 1 of the 2 of this training was ended by SIGKILL"),
        ({1: -15}, 1, "Process 1 of the 2 of this training was ended by SIGTERM"),
    ],
)
def test_of_who_ended_the_reason_is_told(
    statuses: dict[int, int], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(statuses, 2) == status
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert bool(err) == bool(said)
