"""The heads of a ranker of the harness: fitted as a training fits them, so that its chances can be judged on test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model_server.selection import fit_calibration
from model_server.training.heads import fit_heads
from model_server.training.train import scorer_of

if TYPE_CHECKING:
    from model_server.blend import Blend
    from model_server.ranker.net import Net
    from model_server.training.dataset import Dataset


def chances(dataset: Dataset, ranker: Net | Blend) -> Mapping[str, Any]:
    """What the heads over a ranker come to."""
    scorer, valid = scorer_of(dataset, ranker), dataset.valid
    score, _ = scorer(valid.batch)
    return fit_heads(dataset, scorer, fit_calibration(score, valid.batch.item >= 0, valid.label)).told
