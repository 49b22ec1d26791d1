"""Where a ranker is good, and what it leans on: NDCG@10 by hour and scene, and with each group of counters muted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.counters.groups import SCENE, counter_groups
from model_server.evaluation.groups import by_value
from model_server.evaluation.intervals import interval
from model_server.training.examples import Examples
from model_server.training.train import judge_of

if TYPE_CHECKING:
    from model_server.counters.batch import CountedBatch
    from model_server.ranker.net import Net
    from model_server.training.train import Trained

F64 = NDArray[np.float64]
METRIC = "ndcg@10"
MOST = 500
"""Newest requests at which counters are muted."""


def breakdown(trained: Trained, examples: Examples, of: Mapping[str, F64], seed: int) -> dict[str, Any]:
    """Of NDCG@10 f64[N] of some rankers at N requests: by hour, by scene, and what muting costs the net."""
    declaration, scene = trained.dataset.declaration, examples.batch.scene
    fields = {field: by_value(declaration, scene, field, of) for field in declaration.delta_fields}
    return {
        "by hour": by_value(declaration, scene, "hour", of),
        "by scene": {field: table for field, table in fields.items() if len(table) > 1},
        "muted": muted(trained, examples.at(np.arange(max(0, len(examples) - MOST), len(examples))), seed),
    }


def muted(trained: Trained, examples: Examples, seed: int) -> dict[str, Any]:
    """What NDCG@10 loses when the net, as it is, sees a group of counters at their means: group -> loss, interval."""
    if not len(examples):
        return {"requests": 0, "groups": {}}
    dataset, net = trained.dataset, trained.net
    names, judge = dataset.preparation.counters.names, judge_of(dataset, examples)
    user = dataset.chosen.moments.user[examples.request]
    whole = judge.metrics_of(judge.scores(net))[METRIC]
    groups = {}
    for group, columns in counter_groups(dataset.declaration, names).items():
        batch = _mute(net, examples.batch, columns, group)
        without = judge_of(dataset, Examples(batch, examples.label, examples.wanted, examples.request)).scores(net)
        loss = whole - judge.metrics_of(without)[METRIC]
        low, high = interval(loss, seed, user)
        groups[group] = {"loss": float(loss.mean()), "low": low, "high": high}
    return {"requests": len(examples), "whole": float(whole.mean()), "groups": groups}


def _mute(net: Net, batch: CountedBatch, columns: Sequence[int], group: str) -> CountedBatch:
    counters = batch.counters.copy()
    counters[..., columns] = net.base.mean.cpu().numpy()[list(columns)]
    if group != SCENE:
        return batch._replace(counters=counters)
    past = batch.past._replace(hour=np.zeros_like(batch.past.hour))
    return batch._replace(counters=counters, scene=np.zeros_like(batch.scene), past=past)
