"""The net as it is served scores as the net that was trained, whatever the shape of the batch."""

import pytest
import torch

from model_server.ranker.net import Net, NetShape
from model_server.ranker.serving import Served
from tests.unit.test_ranker import CANDIDATES, FEATURES, TOLERANCE, USERS, made_lists, made_net, of_candidates, scores

REDUCED = 0.03
"""bfloat16 keeps eight bits: what these nets' scores, of deviation 0.6, may move by it."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(("prefix", "gate"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_served_equals_what_was_trained(prefix: bool, gate: bool, seed: int) -> None:
    net, lists = made_net(seed, prefix=prefix, gate=gate), made_lists(seed)
    padded = lists._replace(real=torch.arange(CANDIDATES) < torch.arange(4, 4 + USERS)[:, None])
    assert torch.allclose(Served(net, torch.float32)(padded), scores(net, padded), atol=TOLERANCE)


def test_a_counter_net_alone_is_served_as_well() -> None:
    net, lists = made_net(), made_lists()
    alone = Net(NetShape(FEATURES)).eval()
    alone.base.load_state_dict(net.base.state_dict())
    assert torch.allclose(Served(alone, torch.float32)(lists), scores(alone, lists), atol=TOLERANCE)


def test_reduced_numbers_stay_close() -> None:
    net, lists = made_net(), made_lists()
    found = Served(net, torch.bfloat16)(lists)
    assert found.dtype == torch.float32
    assert (found - scores(net, lists)).abs().max() < REDUCED


def test_another_candidate_has_exactly_no_effect() -> None:
    served, lists, other = Served(made_net(), torch.float32), made_lists(), made_lists(1)
    names = ("counters", "item", "word", "category")
    mixed = {name: torch.cat((getattr(lists, name)[:, :1], getattr(other, name)[:, 1:]), 1) for name in names}
    changed = lists._replace(**mixed)
    assert torch.equal(served(lists)[:, 0], served(changed)[:, 0])
    assert not torch.equal(served(lists)[:, 1:], served(changed)[:, 1:])


def test_the_shape_of_a_batch_has_no_effect() -> None:
    served, lists = Served(made_net(), torch.float32), made_lists()
    whole = served(lists)
    for user in range(USERS):
        alone = lists._replace(**{name: part[user : user + 1] for name, part in lists._asdict().items()})
        used = int(lists.recalled[user].sum())
        cut = [name for name in lists._fields if name.startswith("past_") or name == "recalled"]
        shorter = alone._replace(**{name: getattr(alone, name)[:, :used] for name in cut})
        fewer = of_candidates(shorter, lambda part: part[:, :3])
        assert torch.allclose(whole[user], served(alone)[0], atol=TOLERANCE)
        assert torch.allclose(whole[user], served(shorter)[0], atol=TOLERANCE)
        assert torch.allclose(whole[user, :3], served(fewer)[0], atol=TOLERANCE)


def test_scores_beyond_all_bounds_stay_numbers() -> None:
    net, lists = made_net(), made_lists()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(30)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.isfinite(Served(net, dtype)(lists)).all()


def test_what_the_heads_look_at_is_served_as_it_was_trained() -> None:
    net, lists = made_net(), made_lists()
    with torch.inference_mode():
        score, hidden = net.scored(lists)
    served, found = Served(net, torch.float32).scored(lists)
    assert torch.equal(score, scores(net, lists))
    assert torch.allclose(served, score, atol=TOLERANCE)
    assert torch.allclose(found, hidden, atol=TOLERANCE)
    assert found.shape == (USERS, CANDIDATES, 64)
