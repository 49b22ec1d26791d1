"""What a training came to, as a table for people, as JSON for machines, and as the bundle that serves."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model_server.bundle import Bundle
from model_server.evaluation.intervals import interval
from model_server.evaluation.metrics import means
from model_server.training import heads_told
from model_server.training.baselines import Metrics
from model_server.training.breakdown import breakdown
from model_server.training.train import BLEND

if TYPE_CHECKING:
    from rich.table import Table

    from model_server.training.recorded import Recorded
    from model_server.training.stages import Judge
    from model_server.training.train import Trained
    from streams.features.declaration import Declaration

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
METRIC = "ndcg@10"


def report(trained: Trained, recorded: Recorded, seed: int) -> dict[str, Any]:
    """Everything worth keeping as plain numbers; gains are measured on the test requests (on valid without any)."""
    judges = {"valid": trained.valid, **({"test": trained.test} if trained.test is not None else {})}
    rankers = {
        name: {part: judge.metrics_of(trained.scores[name][part]) for part, judge in judges.items()}
        for name in trained.scores
    }
    others = trained.baselines
    rows = {**others, **rankers}
    final = next((v.stage for v in reversed(trained.judgements) if v.kept), trained.judgements[0].stage)
    last = "test" if "test" in judges else "valid"
    part = judges[last].examples
    user = trained.chosen.moments.user[part.request]
    best = max(others, key=lambda name: means(others[name]["valid"])[METRIC])
    return {
        "events": len(recorded),
        "users": len(recorded.user_ids),
        "items": len(recorded.item_ids),
        "until_ms": int(recorded.columns.ts_ms[-1]),
        "learned_until_ms": trained.chosen.learned_until_ms,
        "lists": len(trained.dataset.learn),
        "titles": None if trained.preparation.titles is None else trained.preparation.titles.projection.back_end,
        "requests": {part: len(judge.examples) for part, judge in judges.items()},
        "recall": {part: _recall(judge) for part, judge in judges.items()},
        "rankers": {name: {part: means(m) for part, m in parts.items()} for name, parts in rows.items()},
        "best baseline": best,
        "final": final,
        "measured on": last,
        "gain over": {
            name: _gain(rows[final][last], rows[name][last], user, seed) for name in others_of(final, best, rankers)
        },
        "bar": trained.bar._asdict(),
        "breakdown": breakdown(trained, part, {n: rows[n][last][METRIC] for n in (final, BLEND, best)}, seed),
        "declared": _declared(trained.dataset.declaration),
        "served": final if trained.served else BLEND,
        "verdicts": [dataclasses.asdict(verdict) for verdict in trained.judgements],
        "heads": None if trained.graded is None else trained.graded.told,
        "parameters": sum(p.numel() for p in trained.net.parameters()),
    }


def _declared(declaration: Declaration) -> dict[str, list[str]]:
    """What the ranker was told of: every window, kind and scene field of the rows."""
    return {
        "windows": [window.name for window in declaration.windows],
        "kinds": [kind.name for kind in declaration.kinds],
        "scene": list(declaration.scene_names),
    }


def others_of(final: str, best: str, rankers: Mapping[str, Any]) -> list[str]:
    """Rankers that the final one is compared with: the best baseline, the blend, the stages before it."""
    names = list(rankers)
    return [best, BLEND, *names[: names.index(final)]]


def _recall(judge: Judge) -> float:
    examples = judge.examples
    return float((examples.label.sum(1) / np.maximum(examples.wanted, 1)).mean()) if len(examples) else 0.0


def _gain(final: Metrics, other: Metrics, user: I64, seed: int) -> dict[str, float]:
    difference = final[METRIC] - other[METRIC]
    low, high = interval(difference, seed, user)
    base = float(other[METRIC].mean())
    return {
        "ndcg@10": float(difference.mean()),
        "low": low,
        "high": high,
        "share": float(difference.mean()) / max(base, 1e-9),
    }


def table(told: Mapping[str, Any]) -> Table:
    """The report's table: every ranker on valid and test, the best baseline marked."""
    from rich.table import Table

    parts = list(told["requests"])
    made = Table(title=f"{told['events']:,} events · {told['users']:,} users · {told['items']:,} items")
    made.add_column("ranker", no_wrap=True)
    for part in parts:
        made.add_column(f"{part} NDCG@10", justify="right")
        made.add_column("HR@10", justify="right")
        made.add_column("MRR", justify="right")
    for name, row in told["rankers"].items():
        cells = [f"{row[part][metric]:.4f}" for part in parts for metric in (METRIC, "hr@10", "mrr")]
        mark = " *" if name == told["best baseline"] else ""
        made.add_row(name + mark, *cells, style="bold" if name == told["served"] else None)
    return made


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What the numbers say: candidates, the guards' verdicts, the gain."""
    recall = ", ".join(f"{part} {value:.3f}" for part, value in told["recall"].items())
    lines = [f"Learned from {told['lists']:,} lists; recall of the candidates: {recall}."]
    lines.append(f"Titles are read by {told['titles']}." if told.get("titles") else "Titles are not read.")
    for verdict in told["verdicts"]:
        kept = f"pass {verdict['kept']} kept" if verdict["kept"] else "not better on valid, left out"
        lines.append(f"Guard of the {verdict['stage']}: {verdict['before']:.4f} -> {verdict['after']:.4f}, {kept}.")
    for name, gain in told["gain over"].items():
        lines.append(
            f"Gain over {name} on {told['measured on']}: {gain['ndcg@10']:+.4f} NDCG@10 "
            f"[{gain['low']:+.4f}, {gain['high']:+.4f}], {gain['share']:+.1%}."
        )
    lines.append(_in_force(told))
    return lines + (heads_told.sentences(told["heads"]) if told.get("heads") else [])


def _in_force(told: Mapping[str, Any]) -> str:
    """What the bundle serves with, and what the stages were held against; reports before that was told have no bar."""
    bar = told.get("bar", {"name": BLEND, "value": told["rankers"][BLEND]["valid"][METRIC]})
    above = f"{bar['name']} ({bar['value']:.4f}) on valid"
    if told["served"] != BLEND:
        return f"The bundle serves with: {told['served']}, above {above}."
    return f"No stage is above {above}: the bundle serves with the blend and its fitted weights."


def bundle_of(trained: Trained, declaration: Declaration, told: Mapping[str, Any], now_ms: int) -> Bundle:
    """The bundle that serves what was trained; its version is the time and a digest of its numbers."""
    weights = {name: part.detach().cpu().numpy().copy() for name, part in trained.net.state_dict().items()}
    digest = hashlib.blake2b(digest_size=4)
    for part in (*weights.values(), trained.blend.weights, trained.preparation.words):
        digest.update(part.tobytes())
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    served = trained.served
    graded = {} if trained.graded is None else {"heads": trained.graded.heads}
    return Bundle(
        version=f"{stamp}-{digest.hexdigest()}",
        schema=declaration.schema,
        counters=trained.preparation.counters.names,
        lists=trained.preparation.retriever.names,
        history=trained.preparation.history,
        words=trained.preparation.words,
        neighbours=trained.neighbours,
        blend=trained.blend,
        calibrations={name: (c.slope, c.shift) for name, c in trained.calibrations.items()},
        shape=dataclasses.asdict(trained.net.shape) if served else None,
        weights=weights if served else None,
        report=told,
        titles=None if trained.preparation.titles is None else trained.preparation.titles.projection,
        **graded,
    )
