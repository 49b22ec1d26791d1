"""The demo's training step: what `kairos train --quick` does with the topics, told on the demo's screen."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.screen import Step
from streams.features.declaration import DEFAULT
from streams.service.settings import Connections

if TYPE_CHECKING:
    from model_server.training.recorded import Recorded
    from model_server.training.train import TrainingError

CALM = ("OMP_WAIT_POLICY", "PASSIVE")
"""Torch's threads sleep while they wait for each other: spinning, they take the cores from whoever they wait for."""


class Told:
    """The progress of a training on a step of the screen; raises InterruptedError once `stop` is set."""

    def __init__(self, shown: Step, stop: threading.Event) -> None:
        self._shown, self._stop = shown, stop

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show one part of the training."""
        self._shown.part(f"Training the ranker: {name}")
        done = 0

        def advance(units: int) -> None:
            nonlocal done
            if self._stop.is_set():
                raise InterruptedError
            done += units
            self._shown.progress(done, total)

        yield advance

    def says(self, text: str) -> None:
        """Show how the fitting comes on, pass by pass."""
        if self._stop.is_set():
            raise InterruptedError
        self._shown.part(f"Training the ranker: {' '.join(text.split())}")


async def train(connections: Connections, folder: Path, zone: str, shown: Step) -> str:
    """Train quickly on what the topics hold and write the bundle to `folder`; a line about the result."""
    from model_server.training.topics import Reading, read_topics

    os.environ.setdefault(*CALM)

    def begin(total: int) -> Callable[[int], None]:
        shown.part("Training the ranker: reading the topics")
        done = 0

        def tick(records: int) -> None:
            nonlocal done
            done += records
            shown.progress(done, total)

        return tick

    log = (await read_topics(Reading(connections, DEFAULT, zone), begin)).recorded
    shown.part("Training the ranker: loading torch")
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_learn, log, folder, Told(shown, stop))
    except asyncio.CancelledError:
        stop.set()
        raise


def _learn(recorded: Recorded, folder: Path, told: Told) -> str:
    from model_server.bundle import save
    from model_server.model_folder import make_current
    from model_server.training import report
    from model_server.training.config import TrainConfig
    from model_server.training.requests import Split
    from model_server.training.train import TrainingError, train

    try:
        trained = train(recorded, DEFAULT, TrainConfig(split=Split(test=0.0)).quick, told)
    except TrainingError as problem:
        return untrained(problem)
    figures = report.report(trained, recorded, seed=0)
    now_ms = time.time_ns() // 1_000_000
    made = report.bundle_of(trained, DEFAULT, figures, now_ms)
    save(folder, made)
    make_current(folder, made.version, "train", now_ms)
    return summary(figures)


def untrained(problem: TrainingError) -> str:
    """Why nothing was trained, and what serves instead."""
    return f"The blend of lists serves, for there is too little to learn from: {problem}"


def summary(figures: dict[str, Any]) -> str:
    """What was learned, in a line."""
    served, blend = figures["served"], "wide rank blend"
    scores = {name: parts["valid"]["ndcg@10"] for name, parts in figures["rankers"].items()}
    gain = scores[served] / max(scores[blend], 1e-9) - 1
    above = "" if served == blend else f", {gain:+.0%} over the blend of lists"
    return f"Ranker trained: {served}, NDCG@10 {scores[served]:.3f}{above}"
