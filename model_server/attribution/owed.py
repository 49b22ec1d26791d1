"""What the scores of some items are owed to: the game whose players are the parts of a user. Read this file first.

The worth of some parts is the logit of `final` that the ranker gives where the user is known by those parts alone: it
finds, counts and scores anew, so that an item of the history counts wherever the ranker reads it, be it a counter, a
place in a list or a token. What is left without any part is what the item has for everybody; its counters explain it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_server.attribution.shapley import shapley

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_server.attribution.parts import Known, Part
    from model_server.attribution.shapley import F64, Bools
    from model_server.scoring import I32, ItemState, Ranker

WITHIN = 0.02
"""How exactly a share should be known, as a standard error in logits."""
MOST_PAIRS = 128
AT_ONCE = 512
"""Users in a batch of the ranker: a few hundred fill its products, and more would only take memory."""


@dataclass(frozen=True)
class Owed:
    """What one item's `logit` is owed to: `shares` of the user's parts and `unseen` sum to it within 1e-3.

    `errors`: the standard error of each share. `unseen`: what is there for a user of whom nothing is known, by groups
    of counters. `found`: whether a list of the ranker finds the item now.
    """

    item: int
    logit: float
    shares: tuple[tuple[Part, float], ...]
    errors: tuple[float, ...]
    unseen: Mapping[str, float]
    found: bool

    @property
    def residual(self) -> float:
        """What the shares miss of the logit."""
        return self.logit - sum(share for _, share in self.shares) - sum(self.unseen.values())


def owed(
    ranker: Ranker,
    items: ItemState,
    known: Known,
    wanted: Sequence[int],
    told: Callable[[int], object] = lambda _: None,
    most: int = MOST_PAIRS,
) -> list[Owed]:
    """What the logit of each of the `wanted` items (indices) is owed to; `told` hears of so many more users weighed."""
    item: I32 = np.array(wanted, np.int32)

    def worth(present: Bools) -> F64:
        found = []
        for start in range(0, len(present), AT_ONCE):
            part = known.with_only(present[start : start + AT_ONCE])
            found.append(ranker.weigh(part, items, known.now_ms, item).logit)
            told(len(part.users))
        return np.concatenate(found)

    shares = shapley(worth, [part.key for part in known.parts], within=WITHIN, most=most)
    nobody = ranker.weigh(known.with_only(np.zeros((1, len(known.parts)), np.bool_)), items, known.now_ms, item)
    whole = ranker.weigh(known.requests, items, known.now_ms, item)
    return [
        Owed(
            item=index,
            logit=float(whole.logit[0, k]),
            shares=tuple(zip(known.parts, shares.share[:, k].tolist(), strict=True)),
            errors=tuple(shares.error[:, k].tolist()),
            unseen=nobody.because(0, k),
            found=bool(whole.lists[0, k].any()),
        )
        for k, index in enumerate(wanted)
    ]
