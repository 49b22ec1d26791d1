"""Where a ranker is good, and what it leans on: NDCG@10 by hour and scene, and with each group of counters muted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.counters.names import CATEGORY, OWN, PRICE, REQUEST, TITLES, TOGETHER, item_names, scene_names
from model_server.evaluation.groups import by_value
from model_server.evaluation.intervals import interval
from model_server.evaluation.scene import MOMENT
from model_server.training.examples import Examples
from model_server.training.train import judge_of

if TYPE_CHECKING:
    from model_server.counters.batch import CountedBatch
    from model_server.ranker.net import Net
    from model_server.training.train import Trained
    from streams.features.declaration import Declaration

F64 = NDArray[np.float64]
METRIC = "ndcg@10"
SCENE = "scene and time"
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


def counter_groups(declaration: Declaration, names: Sequence[str]) -> dict[str, list[int]]:
    """Places of the counters by what they look at; every counter is in one group, and no group is empty."""
    looks = {
        SCENE: {*scene_names(declaration), *MOMENT},
        "items by themselves": set(item_names(declaration)),
        "the user's past with the item": set(OWN),
        "categories": set(CATEGORY),
        "items taken together": set(TOGETHER),
        "prices": set(PRICE),
        "titles": set(TITLES),
        "the user": set(REQUEST),
        "retrieval lists": {name for name in names if name.startswith("list_")},
    }
    groups: dict[str, list[int]] = {group: [] for group in looks}
    for place, name in enumerate(names):
        groups[next(group for group, known in looks.items() if name in known)].append(place)
    return {group: places for group, places in groups.items() if places}
