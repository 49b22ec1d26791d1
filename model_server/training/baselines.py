"""Every ranking without a model at the requests of a training: what a ranker must be above to come into force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.heuristics import HEURISTICS
from model_server.evaluation.ranker import Task

if TYPE_CHECKING:
    from model_server.training.dataset import Dataset
    from model_server.training.progress import Progress
    from model_server.training.stages import Judge

Metrics = dict[str, NDArray[np.float64]]


def baselines(dataset: Dataset, judges: Mapping[str, Judge], progress: Progress) -> dict[str, dict[str, Metrics]]:
    """Metrics of every baseline at the requests of each judge: baseline -> part -> metric -> f64[requests]."""
    task, found = Task(dataset), dict[str, dict[str, Metrics]]()
    with progress.step("baselines", len(HEURISTICS)) as tick:
        for heuristic in HEURISTICS:
            score = heuristic.fit(task, 0, tick)[heuristic.name].score
            found[heuristic.name] = {part: judge.metrics_of(score(judge.examples)) for part, judge in judges.items()}
    return found
