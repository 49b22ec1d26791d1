"""The ranker's net: candidates isolated, order and shape of a batch without effect, heads at zero."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from model_server.evaluation.metrics import order
from model_server.ranker.attention import isolating_attention, isolating_mask
from model_server.ranker.counter_net import CounterNet
from model_server.ranker.device import Precision, device_of, fastest
from model_server.ranker.encoder import EncoderShape
from model_server.ranker.lists import Lists
from model_server.ranker.live import buckets, by_length
from model_server.ranker.net import Net, NetShape
from model_server.ranker.piecewise import PiecewiseLinear, edges_of

FEATURES, USERS, CANDIDATES, HISTORY = 11, 6, 9, 12
SCENE = (5, 4, 25, 8, 5)
TOLERANCE = 2e-6
"""Float32 scores of one user in batches of different shape: sums are taken in another order."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made_net(seed: int = 0, *, prefix: bool = True, gate: bool = True) -> Net:
    """A net with every weight away from zero, as after training."""
    torch.manual_seed(seed)
    shape = EncoderShape(
        features=FEATURES, words=20, kinds=6, window_kinds=4, windows=5, scene_sizes=SCENE, history=HISTORY, hidden=16,
        heads=2, scene_prefix=prefix, scene_gate=gate,
    )  # fmt: skip
    net = Net(NetShape(FEATURES, shape)).eval()
    net.base.learn_scales(np.random.default_rng(seed).random((500, FEATURES), np.float32))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def made_lists(seed: int = 0, users: int = USERS, candidates: int = CANDIDATES) -> Lists:
    draw = torch.Generator().manual_seed(seed)

    def code(size: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, size, shape, generator=draw)

    return Lists(
        counters=torch.rand((users, candidates, FEATURES), generator=draw),
        real=torch.ones((users, candidates), dtype=torch.bool),
        item=code(30, users, candidates),
        word=code(20, users, candidates),
        category=code(4, users, candidates),
        past_item=code(30, users, HISTORY),
        past_word=code(20, users, HISTORY),
        past_category=code(4, users, HISTORY),
        past_kind=code(6, users, HISTORY),
        past_age=code(32, users, HISTORY),
        past_hour=code(25, users, HISTORY),
        recalled=torch.arange(HISTORY) < code(HISTORY + 1, users, 1),
        windows=torch.rand((users, 5, 4), generator=draw),
        scene=torch.stack([code(size, users) for size in SCENE], 1),
    )


def of_candidates(lists: Lists, change: Callable[[torch.Tensor], torch.Tensor]) -> Lists:
    """The lists with a change made to every tensor of candidates."""
    names = ("counters", "real", "item", "word", "category")
    return lists._replace(**{name: change(getattr(lists, name)) for name in names})


def scores(net: Net, lists: Lists) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = net(lists)
        return found


@pytest.mark.parametrize(("prefix", "gate"), [(True, True), (True, False), (False, True)])
def test_another_candidate_has_exactly_no_effect(prefix: bool, gate: bool) -> None:
    net, lists, other = made_net(prefix=prefix, gate=gate), made_lists(), made_lists(1)

    def swap(part: torch.Tensor) -> torch.Tensor:
        return torch.cat((part[:, :1], getattr(other, field_of(part, lists))[:, 1:]), 1)

    changed = of_candidates(lists, swap)
    assert torch.equal(scores(net, lists)[:, 0], scores(net, changed)[:, 0])
    assert not torch.equal(scores(net, lists)[:, 1:], scores(net, changed)[:, 1:])


def field_of(part: torch.Tensor, lists: Lists) -> str:
    return next(name for name in lists._fields if getattr(lists, name) is part)


def test_the_order_of_the_candidates_has_no_effect() -> None:
    net, lists = made_net(), made_lists()
    turned = torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(3))
    shuffled = scores(net, of_candidates(lists, lambda part: part[:, turned]))
    assert torch.allclose(scores(net, lists)[:, turned], shuffled, atol=TOLERANCE)


def test_a_user_scores_the_same_alone_and_among_others() -> None:
    net, lists = made_net(), made_lists()
    whole = scores(net, lists)
    for user in range(USERS):
        alone = scores(net, Lists(*(part[user : user + 1] for part in lists)))
        assert torch.allclose(whole[user], alone[0], atol=TOLERANCE)


def test_padding_of_history_and_candidates_has_no_effect() -> None:
    net, lists = made_net(), made_lists()
    used = int(lists.recalled.sum(1).max())
    cut = lists._replace(
        **{n: getattr(lists, n)[:, :used] for n in lists._fields if n.startswith("past_") or n == "recalled"}
    )
    assert torch.allclose(scores(net, lists), scores(net, cut), atol=TOLERANCE)
    longer = of_candidates(lists, lambda part: torch.cat((part, torch.zeros_like(part[:, :4])), 1))
    padded = scores(net, longer)
    assert torch.allclose(scores(net, lists), padded[:, :CANDIDATES], atol=TOLERANCE)
    assert (padded[:, CANDIDATES:] == torch.finfo(torch.float32).min).all()


def test_the_scene_and_the_history_do_have_an_effect() -> None:
    net, lists = made_net(), made_lists()
    elsewhere = lists._replace(scene=(lists.scene + 1) % torch.tensor(SCENE))
    forgotten = lists._replace(recalled=torch.zeros_like(lists.recalled))
    for other in (elsewhere, forgotten):
        assert not torch.allclose(scores(net, lists), scores(net, other), atol=1e-4)


def test_a_user_without_history_has_a_finite_score() -> None:
    lists = made_lists()
    empty = lists._replace(recalled=torch.zeros_like(lists.recalled))
    assert torch.isfinite(scores(made_net(), empty)).all()


def test_a_fresh_encoder_changes_nothing() -> None:
    torch.manual_seed(0)
    net = made_net()
    fresh = Net(NetShape(FEATURES, net.shape.encoder)).eval()
    fresh.base.load_state_dict(net.base.state_dict())
    alone = Net(NetShape(FEATURES)).eval()
    alone.base.load_state_dict(net.base.state_dict())
    lists = made_lists()
    assert torch.equal(scores(fresh, lists), scores(alone, lists))


def test_gradients_reach_the_biases_of_the_mask() -> None:
    net, lists = made_net().train(), made_lists()
    net(lists).sum().backward()
    assert net.encoder is not None
    for bias in (net.encoder.same_item, net.encoder.same_category):
        assert bias.grad is not None
        assert bias.grad.abs() > 0


def test_isolating_attention_equals_full_attention_under_a_mask() -> None:
    """The plain way: every score between two tokens, most of them masked out."""
    draw = torch.Generator().manual_seed(0)
    users, heads, width, candidates, depth = 3, 2, 5, 4, 8
    query, key, value = (torch.randn((users, heads, width + candidates, depth), generator=draw) for _ in range(3))
    prefix = torch.arange(width) < torch.tensor([[5], [1], [3]])
    bias = torch.randn((users, candidates, width), generator=draw)
    prefix_mask, candidate_mask = isolating_mask(prefix, bias)
    found, _ = isolating_attention(
        torch.nn.Identity(),
        query,
        key,
        value,
        None,
        scaling=0.3,
        prefix_mask=prefix_mask,
        candidate_mask=candidate_mask,
    )
    full = torch.full((users, 1, width + candidates, width + candidates), float("-inf"))
    full[..., :width].masked_fill_(prefix[:, None, None], 0.0)
    full[:, :, width:, :width] += bias[:, None]
    full[..., range(width, width + candidates), range(width, width + candidates)] = 0.0
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=full, scale=0.3)
    assert torch.allclose(found, plain.transpose(1, 2), atol=1e-6)


def test_a_fresh_counter_net_is_its_linear_score() -> None:
    net = CounterNet(4).eval()
    with torch.no_grad():
        net.linear.weight.copy_(torch.tensor([[1.0, -2.0, 0.5, 0.0]]))
    x = torch.rand(3, 7, 4)
    assert torch.equal(net(x), net.linear_score(x))


def test_bins_lie_where_the_counter_is_not_at_its_least_value() -> None:
    values = np.concatenate((np.zeros(900), np.linspace(1, 8, 100))).astype(np.float32)[:, None]
    edges = edges_of(values, 4)
    assert edges[0, 0] == 0
    assert np.all(np.diff(edges[0]) > 1)


def test_a_constant_counter_fills_no_bin() -> None:
    encode = PiecewiseLinear(1, 4)
    encode.set_edges(edges_of(np.full((10, 1), 3.0, np.float32), 4))
    assert encode(torch.tensor([[0.0], [3.0], [9.0]])).abs().sum() == 0


def test_piecewise_fill_grows_from_nothing_to_every_bin() -> None:
    encode = PiecewiseLinear(1, 4)
    encode.set_edges(np.array([[0, 1, 2, 3, 4]], np.float32))
    assert encode(torch.tensor([[-1.0], [1.5], [9.0]])).tolist() == [[0, 0, 0, 0], [1, 0.5, 0, 0], [1, 1, 1, 1]]


def test_users_are_grouped_by_length_and_the_few_join_the_longer() -> None:
    used = np.array([0, 3, 13, 13, 14, 15, 16, 50, 99])
    groups = by_length(used, buckets(50))
    assert sorted(np.concatenate([rows for rows, _ in groups]).tolist()) == list(range(9))
    assert all((np.minimum(used[rows], 50) <= length).all() for rows, length in groups)
    assert all(len(rows) >= 4 for rows, _ in groups[:-1])


def test_a_score_that_is_no_number_sinks_below_every_other() -> None:
    score = np.array([[np.nan, -5.0, np.inf, 2.0]], np.float32)
    item = np.array([[4, 3, 2, 1]], np.int32)
    assert order(score, np.zeros((1, 4), np.float32), item).tolist() == [[3, 1, 2, 0]]


def test_the_precision_is_one_that_was_measured() -> None:
    device = device_of("cpu")
    slow = fastest(device, lambda precision: torch.rand(600, 600) @ torch.rand(600, 600) if precision.reduced else None)
    assert slow == Precision(device)
    assert slow.name == "float32"


def test_cuda_that_is_not_there_is_refused_with_the_way_out() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match="set it to auto or cpu"):
        device_of("cuda")
