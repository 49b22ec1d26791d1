"""The oracle of a planted shop: ranks by the true chance at the request, from what a ranker could know then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.metrics import CUTOFF, DISCOUNT, order
from model_server.evaluation.ranker import Fitted, Score, Scores, Task, Tick
from model_server.training.requests import REFRESH_MS

if TYPE_CHECKING:
    from model_server.evaluation.planted import World
    from model_server.training.examples import Examples

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
ORACLE, BLIND = "oracle", "oracle, no scene"
MOST_SCENES = 200
"""Newest scenes of a user that the oracle without scene takes the mean of."""


@dataclass(frozen=True)
class Oracle:
    """Two rankers: by the chance under the scene of the request, and by its mean over the user's own scenes.

    The second is what nobody who does not look at the scene can be above.
    """

    world: World
    names: tuple[str, ...] = (ORACLE, BLIND)
    seeded: bool = False
    scened: bool = True

    def units(self, task: Task) -> int:  # noqa: ARG002
        """One."""
        return 1

    def fit(self, task: Task, seed: int, tick: Tick) -> Mapping[str, Fitted]:  # noqa: ARG002
        """Nothing is fitted."""
        tick(1)
        return {name: Fitted(self._scoring(task, name)) for name in self.names}

    def _scoring(self, task: Task, name: str) -> Callable[[Examples], Scores]:
        chances, number = self._chances(task)[name], numbers(task.dataset.recorded.item_ids)

        def score(examples: Examples) -> Scores:
            chance = chances(task.user(examples), examples.batch.scene)
            own = np.take_along_axis(chance, number[np.maximum(examples.batch.item, 0)], axis=1)
            return np.where(_seen(task, examples, task.pair(examples)), 0, own)

        return score

    def _chances(self, task: Task) -> dict[str, Callable[[I64, U8], F64]]:
        world, user_of = self.world, numbers(task.dataset.recorded.user_ids)
        codes, acts = task.dataset.recorded.columns.codes, task.acts
        owner = task.dataset.recorded.user[acts]

        def blind(user: I64, scene: U8) -> F64:
            found = np.empty((len(scene), len(world.appeal)))
            for one in np.unique(user).tolist():
                own = codes[acts[owner == one][-MOST_SCENES:]]
                found[user == one] = world.chance(np.full(len(own), user_of[one]), own).mean(0)
            return found

        return {ORACLE: lambda user, scene: world.chance(user_of[user], scene), BLIND: blind}

    def truth(self, task: Task) -> Callable[[Examples, U8, I64], F64]:
        """The chance of one candidate of each request under any scenes, see `send_time.Truth`."""
        number, user_of = numbers(task.dataset.recorded.item_ids), numbers(task.dataset.recorded.user_ids)

        def chance(examples: Examples, scene: U8, column: I64) -> F64:
            row = np.arange(len(examples))
            found: F64 = self.world.chance(user_of[task.user(examples)], scene)[
                row, number[examples.batch.item[row, column]]
            ]
            return found

        return chance

    def expected(self, task: Task, examples: Examples) -> Expected:
        """What any ranking of these requests is worth by the true chances."""
        items = numbers(task.dataset.recorded.item_ids)
        user = task.user(examples)
        chance = self.world.chance(numbers(task.dataset.recorded.user_ids)[user], examples.batch.scene)[:, items]
        chance[_seen(task, examples, user[:, None] * len(items) + np.arange(len(items)))] = 0
        return Expected(chance / chance.sum(1, keepdims=True), task.dataset.popularity(examples), examples)


@dataclass(frozen=True)
class Expected:
    """Expected NDCG@10 of requests with one taken item each, by its true chances f64[N, M] over the whole shop.

    What was really taken is one draw of these chances: its noise is as large as what there is to be told apart.
    """

    chance: F64
    popularity: NDArray[np.float32]
    examples: Examples

    @property
    def best(self) -> F64:
        """Of the oracle, which ranks every item of the shop, f64[N]."""
        top: F64 = np.sort(self.chance, axis=1)[:, ::-1][:, :CUTOFF] @ DISCOUNT
        return top

    def of(self, scores: Sequence[Score]) -> F64:
        """Of rankings of the candidates by each of S scores, f64[S, N]."""
        return np.stack([self._of(score(self.examples)) for score in scores])

    def _of(self, score: Scores) -> F64:
        item = self.examples.batch.item
        top = np.take_along_axis(item, order(score, self.popularity, item)[:, :CUTOFF], axis=1)
        gain = np.where(top >= 0, np.take_along_axis(self.chance, np.maximum(top, 0), axis=1), 0)
        found: F64 = gain @ DISCOUNT[: gain.shape[1]]
        return found


def _seen(task: Task, examples: Examples, pair: I64) -> NDArray[np.bool_]:
    """Where the user saw the item of a pair within half an hour: it is no news, so that no request can take it."""
    found: NDArray[np.bool_] = task.by_pair.count(pair, task.now_ms(examples)[:, None], REFRESH_MS - 1) > 0
    return found


def numbers(ids: Sequence[str]) -> I64:
    """The number in each id of a planted log."""
    return np.array([int(name[1:]) for name in ids], np.int64)
