"""What a ranker learns from, is chosen by and is judged on: as-of examples of one log, split in time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.preparation import Preparation
from model_server.retrieval.neighbours import Neighbours
from model_server.training.asof import Replay
from model_server.training.examples import Examples, Sampling, build, build_lists
from model_server.training.requests import Moments, moments, split, target_kinds
from model_server.training.titles import recorded_titles

if TYPE_CHECKING:
    from model_server.training.config import TrainConfig
    from model_server.training.progress import Progress
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


class TrainingError(ValueError):
    """A log that nothing can be learned from; the text says what is missing."""


@dataclass(frozen=True)
class Chosen:
    """Requests to learn from, to choose by and to report, as positions in `moments`, each in time order."""

    moments: Moments
    train: I64
    valid: I64
    test: I64

    @property
    def learned_until_ms(self) -> int:
        """The first moment that nothing was learned from."""
        return int(self.moments.ts_ms[self.valid[0]])


@dataclass(frozen=True)
class Dataset:
    """Examples of one log: thinned lists to learn from, whole candidate sets to choose by and to report (or None).

    `prepare_ms`: CPU a request took to find and count its candidates, over the whole candidate sets.
    """

    recorded: Recorded
    declaration: Declaration
    config: TrainConfig
    chosen: Chosen
    preparation: Preparation
    learn: Examples
    valid: Examples
    test: Examples | None
    prepare_ms: float

    def popularity(self, examples: Examples) -> F32:
        """What ties of the score go by: everybody's events with each candidate so far, as log1p."""
        found: F32 = examples.batch.counters[..., self.preparation.counters.names.index("item_all")]
        return found

    def replay(self) -> Replay:
        """A replay of the log from its beginning, as the examples were made by."""
        return replay_of(self.recorded, self.declaration, self.config, self.chosen, self.preparation)


def choose(recorded: Recorded, declaration: Declaration, config: TrainConfig) -> Chosen:
    """The moments of a training; what happens at one moment is never on both sides of a split.

    Raises TrainingError where there are too few.
    """
    found = moments(recorded, declaration, target_kinds(recorded, declaration, config.target))
    first_valid, first_test = (
        int(np.searchsorted(found.ts_ms, found.ts_ms[first])) if first < len(found) else first
        for first in split(len(found), config.split)
    )
    train = np.arange(max(0, first_valid - config.lists), first_valid)
    valid = np.arange(max(first_valid, first_test - config.valid), first_test)
    test = np.arange(max(first_test, len(found) - config.test), len(found))
    if len(train) < 1 or len(valid) < 1:
        text = (
            f"{len(recorded)} events make {len(found)} moments at which a user took something new: "
            "too few to learn from and to choose by; record more, or name what counts with --target"
        )
        raise TrainingError(text)
    return Chosen(found, train, valid, test)


def build_dataset(recorded: Recorded, declaration: Declaration, config: TrainConfig, progress: Progress) -> Dataset:
    """Examples of a whole log. Raises TrainingError where there is nothing to learn from, TextError."""
    chosen = choose(recorded, declaration, config)
    words = words_before(recorded, chosen.learned_until_ms, config.words)
    return dataset_of(recorded, declaration, config, chosen, words, progress)


def dataset_of(
    recorded: Recorded,
    declaration: Declaration,
    config: TrainConfig,
    chosen: Chosen,
    words: NDArray[np.uint64],
    progress: Progress,
) -> Dataset:
    """Examples of the chosen requests; `words` u64[V], sorted, are the codes of items with a trained id.

    Raises TrainingError where there is nothing to learn from.
    """
    preparation = Preparation(
        declaration,
        words,
        Neighbours.none(),
        history=config.history,
        titles=recorded_titles(recorded, config, chosen.learned_until_ms, progress),
    )
    replay = replay_of(recorded, declaration, config, chosen, preparation)
    with progress.step("examples: train", len(chosen.train)) as tick:
        learn = build_lists(replay, chosen.moments, chosen.train, Sampling(config.width, config.seed), tick)
    if not len(learn):
        text = "no training request had its item among the candidates: the log repeats too little to learn from"
        raise TrainingError(text)
    began = time.process_time()
    with progress.step("examples: valid", len(chosen.valid)) as tick:
        valid = build(replay, chosen.moments, chosen.valid, tick)
    test = None
    if len(chosen.test):
        with progress.step("examples: test", len(chosen.test)) as tick:
            test = build(replay, chosen.moments, chosen.test, tick)
    whole = len(chosen.valid) + len(chosen.test)
    prepare_ms = 1000 * (time.process_time() - began) / whole
    return Dataset(recorded, declaration, config, chosen, preparation, learn, valid, test, prepare_ms)


def replay_of(
    recorded: Recorded, declaration: Declaration, config: TrainConfig, chosen: Chosen, preparation: Preparation
) -> Replay:
    """The replay that the examples of these moments are taken from."""
    stamps = chosen.moments.ts_ms
    return Replay(
        recorded,
        declaration,
        preparation,
        neighbours_every_ms=config.renew_every_ms(int(stamps[-1] - stamps[chosen.train[0]])),
        refresh_ms=config.refresh_ms,
        profiles_ms=config.profiles_ms,
    )


def words_before(recorded: Recorded, until_ms: int, least: int) -> NDArray[np.uint64]:
    """Sorted codes of the items with at least `least` events before `until_ms`."""
    end = int(np.searchsorted(recorded.columns.ts_ms, until_ms))
    counts = np.bincount(recorded.item[:end], minlength=len(recorded.codes))
    return np.sort(recorded.codes[counts >= least])
