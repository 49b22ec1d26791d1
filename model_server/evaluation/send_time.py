"""When to send: the item a ranker would push now, at the hour at which it thinks it most wanted, against the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.merge import Candidates
from model_server.training.examples import CHUNK, Examples, labelled

if TYPE_CHECKING:
    from model_server.evaluation.ranker import Score
    from model_server.training.asof import Replay
    from model_server.training.dataset import Dataset

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Truth = Callable[[Examples, U8, I64], F64]
"""Chance f64[N] that one candidate (its column i64[N]) of each request is taken under scenes u8[N, S]."""
SLOTS, EVERY_H = 8, 3
"""Slots of the next 24 hours, the first of them now."""


class Regrets(NamedTuple):
    """Share of the best slot's chance that is lost, f64[N]: at the ranker's slot, now, at the user's commonest hour."""

    chosen: F64
    now: F64
    usual: F64
    user: I64


def regrets(
    dataset: Dataset, score: Score, truth: Truth, most: int, tick: Callable[[int], object] = lambda _: None
) -> Regrets:
    """Regrets at the newest `most` test requests. Only the hour and the weekday move; the counters stay of the moment.

    Scores of different hours do not compare, shares of the candidates do: the slot is that of the greatest share.
    """
    replay, moments, requests = dataset.replay(), dataset.chosen.moments, dataset.chosen.test[-most:]
    parts = []
    for start in range(0, len(requests), CHUNK):
        chunk = requests[start : start + CHUNK]
        now = labelled(replay.take(moments, chunk), moments, chunk)
        parts.append(_of_chunk(dataset, replay, now, score, truth))
        tick(len(chunk))
    lost = np.concatenate(parts)
    return Regrets(lost[:, 0], lost[:, 1], lost[:, 2], moments.user[requests])


def _of_chunk(dataset: Dataset, replay: Replay, now: Examples, score: Score, truth: Truth) -> F64:
    moments, candidates = dataset.chosen.moments, Candidates(now.batch.item, now.batch.near)
    scenes = [later(dataset, now.batch.scene, EVERY_H * slot) for slot in range(SLOTS)]
    shares = [_shares(score(labelled(replay.recount(candidates, s), moments, now.request)), now) for s in scenes]
    best, row = shares[0].argmax(1), np.arange(len(now))
    chance = np.stack([truth(now, scene, best) for scene in scenes], axis=1)
    chosen = np.stack([share[row, best] for share in shares], axis=1).argmax(1)
    slots = np.stack((chosen, np.zeros_like(chosen), _usual(dataset, now)), axis=1)
    lost: F64 = 1 - chance[row[:, None], slots] / chance.max(1, keepdims=True)
    return lost


def _shares(score: NDArray[np.generic], examples: Examples) -> F64:
    """Softmax of the scores over the real candidates."""
    shown = np.where(examples.batch.item >= 0, score.astype(np.float64), -np.inf)
    share = np.exp(shown - shown.max(1, keepdims=True))
    found: F64 = share / share.sum(1, keepdims=True)
    return found


def later(dataset: Dataset, scene: U8, hours: int) -> U8:
    """The scenes so many hours later, all else being the same."""
    names = dataset.declaration.scene_names
    hour, weekday = names.index("hour"), names.index("weekday")
    moved = scene.copy()
    passed = scene[:, hour].astype(np.int64) - 1 + hours
    moved[:, hour] = 1 + passed % 24
    moved[:, weekday] = 1 + (scene[:, weekday] - 1 + passed // 24) % 7
    return moved


def _usual(dataset: Dataset, now: Examples) -> I64:
    """The slot nearest to the hour at which each user did most before; 0 for who did nothing."""
    recorded, moments = dataset.recorded, dataset.chosen.moments
    hour = dataset.declaration.scene_names.index("hour")
    slots = np.zeros(len(now), np.int64)
    for row, request in enumerate(now.request.tolist()):
        end = int(np.searchsorted(recorded.columns.ts_ms, moments.ts_ms[request]))
        own = recorded.columns.codes[:end, hour][recorded.user[:end] == moments.user[request]]
        if len(own):
            ahead = (np.bincount(own, minlength=25)[1:].argmax() - (int(now.batch.scene[row, hour]) - 1)) % 24
            slots[row] = round(ahead / EVERY_H) % SLOTS
    return slots
