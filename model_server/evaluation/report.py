"""What an evaluation came to, as plain numbers: one dictionary that JSON, the page and the plots are made from."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.groups import by_value
from model_server.evaluation.heuristics import HEURISTICS
from model_server.evaluation.intervals import interval
from model_server.evaluation.metrics import means
from model_server.evaluation.ranker import METRIC
from model_server.evaluation.scene import PLACEBOS, WITHOUT, Placebo
from model_server.evaluation.trained import NAMES
from model_server.training.train import BLEND

if TYPE_CHECKING:
    from model_server.evaluation.harness import Evaluation, Outcome

F64 = NDArray[np.float64]


def report(found: Evaluation, log: str, sources: str | None) -> dict[str, Any]:
    """Everything worth keeping of an evaluation of the log called `log`; `sources` is their commit when it began."""
    dataset, test = found.dataset, found.test
    outcomes = found.outcomes
    return {
        "log": log,
        "commit": sources,
        "seed": found.config.train.seed,
        "seeds": found.config.seeds,
        "events": len(dataset.recorded),
        "users": len(dataset.recorded.user_ids),
        "items": len(dataset.recorded.item_ids),
        "split": _split(found),
        "requests": {
            "train": len(dataset.learn),
            "valid": len(dataset.valid),
            "test": len(test),
            "test users": len(np.unique(found.user)),
            "cold": int((~found.warm).sum()),
        },
        "cold below": found.config.cold,
        "recall@200": float(found.recall.mean()),
        "ceiling": float(found.ceiling.mean()),
        "prepare_ms": dataset.prepare_ms,
        "rankers": {name: _row(found, outcome) for name, outcome in outcomes.items()},
        "best baseline": best_baseline(outcomes),
        "compared": [_compared(found, of, over) for of, over in pairs(outcomes)],
        "placebos": {name: _placebo(placebo) for name, placebo in found.placebos.items()},
        "context auc": {
            name: {field: _auc(found, field, won) for field, won in outcome.context.items()}
            for name, outcome in outcomes.items()
            if outcome.context
        },
        "chances": {name: outcome.chances for name, outcome in outcomes.items() if outcome.chances is not None},
        "warnings": _warnings(found),
        "by hour": _by_value(found, "hour"),
        "by scene": {f: table for f in dataset.declaration.delta_fields if len(table := _by_value(found, f)) > 1},
    }


def _by_value(found: Evaluation, field: str) -> dict[str, Any]:
    """NDCG@10 of every ranker under each value of a scene field."""
    ndcg = {name: outcome.metrics[METRIC].mean(0) for name, outcome in found.outcomes.items()}
    return by_value(found.dataset.declaration, found.test.batch.scene, field, ndcg)


def _placebo(placebo: Placebo) -> dict[str, Any]:
    alike = {field: part._asdict() for field, part in placebo.alike.items()}
    return {"changed": placebo.changed, "alike": alike}


def pairs(outcomes: Mapping[str, Outcome]) -> list[tuple[str, str]]:
    """(ranker, other one) that say what a part is worth: each stage, the scene, its placebos, and LightGBM."""
    stages = [name for name in NAMES.values() if name in outcomes]
    wanted = [(later, earlier) for earlier, later in pairwise(stages)]
    for name in stages[1:]:
        without = f"{name}, {WITHOUT}"
        wanted.append((name, without))
        for placebo in (f"{name}, {placebo}" for placebo in PLACEBOS):
            wanted += [(placebo, without), (name, placebo)]
    wanted.append((stages[-1], "LightGBM lambdarank"))
    return [(of, over) for of, over in wanted if of in outcomes and over in outcomes]


def best_baseline(outcomes: Mapping[str, Outcome]) -> str | None:
    """The ranking without a model that is best on valid."""
    known = [heuristic.name for heuristic in HEURISTICS if heuristic.name in outcomes]
    return max(known, key=lambda name: outcomes[name].valid, default=None)


def final(told: Mapping[str, Any]) -> str:
    """The last of our own stages in a report."""
    return [name for name in NAMES.values() if name in told["rankers"]][-1]


def commit() -> str | None:
    """The commit of the sources, with a + where they were changed since; None where they are no checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        asked = ["git", "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(asked, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _warnings(found: Evaluation) -> list[str]:
    """What to mistrust: a bundle that may have learned from the test."""
    chosen = found.dataset.chosen
    first_ms = int(chosen.moments.ts_ms[chosen.test[0]])
    lines = []
    for name, outcome in found.outcomes.items():
        learned = outcome.chosen[0].get("learned until", 0)
        if learned is None or learned >= first_ms:
            day = datetime.fromtimestamp(first_ms / 1000, UTC).isoformat(timespec="seconds")
            lines.append(
                f"{name} may have learned from the test's own time, which flatters it: "
                f"train the bundle with --until {day}."
            )
    return lines


def _split(found: Evaluation) -> dict[str, str]:
    chosen, stamps = found.dataset.chosen, found.dataset.chosen.moments.ts_ms
    moments = {
        "train from": stamps[chosen.train[0]],
        "valid from": stamps[chosen.valid[0]],
        "test from": stamps[chosen.test[0]],
        "test to": stamps[chosen.test[-1]],
    }
    return {name: datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat() for name, ms in moments.items()}


def _row(found: Evaluation, outcome: Outcome) -> dict[str, Any]:
    blend = found.outcomes[BLEND]
    return {
        **means(outcome.metrics),
        "valid": outcome.valid,
        "over blend": {metric: _gain(found, outcome, blend, metric) for metric in (METRIC, "mrr")},
        "warm": _part(outcome, found.warm),
        "cold": _part(outcome, ~found.warm),
        **outcome.shown,
        "fit_s": outcome.fit_s,
        "ms_a_user": outcome.ms_a_user,
        "by seed": outcome.by_seed,
        "chosen": outcome.chosen,
        "interval": interval(outcome.metrics[METRIC], found.config.train.seed, found.user),
    }


def _part(outcome: Outcome, part: NDArray[np.bool_]) -> dict[str, float] | None:
    return means({name: value[:, part] for name, value in outcome.metrics.items()}) if part.any() else None


def _gain(found: Evaluation, of: Outcome, over: Outcome, metric: str) -> dict[str, float]:
    """Mean difference of a metric, paired by request, with its interval, and as a share of the other's."""
    difference = of.metrics[metric] - over.metrics[metric]
    low, high = interval(difference, found.config.train.seed, found.user)
    gain = float(difference.mean())
    return {"gain": gain, "low": low, "high": high, "share": gain / max(float(over.metrics[metric].mean()), 1e-9)}


def _compared(found: Evaluation, of: str, over: str) -> dict[str, Any]:
    return {"of": of, "over": over, **_gain(found, found.outcomes[of], found.outcomes[over], METRIC)}


def _auc(found: Evaluation, field: str, won: F64) -> dict[str, float]:
    low, high = interval(won, found.config.train.seed, found.contrasts[field])
    return {"auc": float(won.mean()), "low": low, "high": high, "requests": won.shape[1]}
