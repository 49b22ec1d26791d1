"""Shapley values by sampled orders: what each of P players adds to K values, which sums to what all of them add."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
Worth = Callable[[Bools], F64]
"""Of coalitions bool[V, P] their values f64[V, K]."""

LOT = 8
"""Pairs of orders between two looks at how exact the shares are."""


class Shares(NamedTuple):
    """share, error f64[P, K]: what each player adds and the standard error of that; nobody, everybody f64[K].

    nobody + share.sum(0) = everybody, but for rounding.
    """

    share: F64
    error: F64
    nobody: F64
    everybody: F64


def shapley(worth: Worth, players: Sequence[str], *, within: float, most: int) -> Shares:
    """Shares of `players`, each known to `within` (standard error), or as `most` pairs of orders tell.

    A player's share is what its coming adds, in the mean over orders; each order is asked from both ends (Castro et al.
    2009). What adds nothing anywhere is owed exactly nothing, and where players do not speak of each other every order
    tells the same. Each player draws its places by its own name: shares do not depend on how the players are listed.
    """
    count = len(players)
    nobody, everybody = worth(np.array([[False] * count, [True] * count]))
    if not count:
        return Shares(np.zeros((0, len(nobody))), np.zeros((0, len(nobody))), nobody, everybody)
    places = np.stack([np.random.default_rng(_seed(name)).random(most) for name in players], 1)
    found: list[F64] = []
    share = error = np.zeros((count, len(nobody)))
    for start in range(0, most, LOT):
        orders = np.argsort(places[start : start + LOT], 1)
        found += _pairs(worth, orders, nobody, everybody)
        share = np.mean(found, 0)
        error = np.std(found, 0, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.full(share.shape, np.inf)
        if error.max() <= within:
            break
    return Shares(share, error, nobody, everybody)


def _pairs(worth: Worth, orders: NDArray[np.intp], nobody: F64, everybody: F64) -> Iterator[F64]:
    """What each player adds f64[P, K], in each order i[N, P] and its reverse, in the mean of the two."""
    both = np.concatenate((orders, orders[:, ::-1]))
    count = orders.shape[1]
    place = np.argsort(both, 1)
    here = place[:, None, :] < np.arange(1, count)[None, :, None]
    between = worth(here.reshape(-1, count)).reshape(len(both), count - 1, len(nobody))
    ends = (np.broadcast_to(end, (len(both), 1, len(end))) for end in (nobody, everybody))
    first, last = ends
    steps = np.diff(np.concatenate((first, between, last), 1), axis=1)
    added = np.take_along_axis(steps, place[:, :, None], 1)
    yield from (added[: len(orders)] + added[len(orders) :]) / 2


def _seed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
