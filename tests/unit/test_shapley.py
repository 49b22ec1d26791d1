"""Shares of sampled orders: they sum to the whole, and are what is known where that is known."""

from itertools import permutations

import numpy as np
import pytest

from model_server.attribution.shapley import F64, Bools, shapley

NAMES = ["a", "b", "c", "d", "e"]
WEIGHTS = np.array([3.0, -1.0, 0.5, 0.0, 2.0])


def additive(present: Bools) -> F64:
    worth: F64 = (present @ WEIGHTS)[:, None] + 7.0
    return worth


def entangled(present: Bools) -> F64:
    """Two values: a meets b, c counts where e does not; d means nothing."""
    a, b, c, _, e = present.T
    return np.stack((2.0 * (a & b) + 1.0 * (c & ~e) + a, 1.0 * (a | b | e)), 1)


def exact(players: int) -> F64:
    """The shares of `entangled` over every order there is."""
    added = []
    for order in permutations(range(players)):
        present = np.zeros((players + 1, players), np.bool_)
        for n, player in enumerate(order, 1):
            present[n:, player] = True
        steps = np.diff(entangled(present), axis=0)
        added.append(steps[np.argsort(order)])
    mean: F64 = np.mean(added, 0)
    return mean


def test_where_players_do_not_speak_of_each_other_every_share_is_exact_at_once() -> None:
    asked: list[int] = []

    def counted(present: Bools) -> F64:
        asked.append(len(present))
        return additive(present)

    found = shapley(counted, NAMES, within=0.01, most=64)
    assert found.share[:, 0] == pytest.approx(WEIGHTS, abs=1e-12)
    assert (float(found.nobody[0]), float(found.everybody[0])) == (7.0, 7.0 + WEIGHTS.sum())
    assert found.error.max() < 1e-12
    assert asked == [2, 2 * 8 * 4]


@pytest.mark.parametrize("most", [1, 8, 24])
def test_shares_sum_to_the_whole_however_few_orders_are_asked(most: int) -> None:
    found = shapley(entangled, NAMES, within=0.0, most=most)
    assert found.nobody + found.share.sum(0) == pytest.approx(found.everybody, abs=1e-12)


def test_shares_are_those_of_all_orders_within_the_error_that_is_told() -> None:
    found = shapley(entangled, NAMES, within=0.0, most=512)
    assert found.error.max() < 0.05
    assert (np.abs(found.share - exact(5)) <= 4 * found.error + 1e-12).all()
    assert found.share[3].tolist() == [0.0, 0.0]


def test_more_orders_are_asked_until_the_shares_are_exact_enough() -> None:
    rough, fine = (shapley(entangled, NAMES, within=within, most=512).error.max() for within in (0.1, 0.03))
    assert fine <= 0.03 < rough <= 0.1


def test_the_order_in_which_players_are_listed_has_no_effect() -> None:
    turned = [4, 2, 0, 3, 1]
    back = np.argsort(turned)

    def other(present: Bools) -> F64:
        return entangled(present[:, back])

    found = shapley(entangled, NAMES, within=0.0, most=16)
    again = shapley(other, [NAMES[at] for at in turned], within=0.0, most=16)
    assert again.share == pytest.approx(found.share[turned], abs=1e-12)


def test_one_player_and_none() -> None:
    alone = shapley(lambda present: present.astype(np.float64), ["a"], within=0.0, most=8)
    assert alone.share.tolist() == [[1.0]]
    nobody = shapley(lambda present: np.full((len(present), 2), 5.0), [], within=0.0, most=8)
    assert (nobody.share.shape, nobody.everybody.tolist()) == ((0, 2), [5.0, 5.0])
