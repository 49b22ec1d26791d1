"""An evaluation as a Markdown page: what was measured on what, every ranker, what each part is worth, plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_server.evaluation.ranker import METRIC
from model_server.evaluation.report import final
from model_server.training.train import BLEND


def page(told: Mapping[str, Any], plots: Mapping[str, Path], command: str) -> str:
    """The whole page; `command` is what was typed."""
    parts = [
        f"# {told['log']}",
        f"```sh\n{command}\n```",
        _measured(told),
        *(f"**{warning}**" for warning in told["warnings"]),
        "## Rankers",
        _rankers(told),
        "## What each part is worth",
        _compared(told),
        "## Warm and cold users",
        _sides(told),
        "## Beyond accuracy, and cost",
        _costs(told),
    ]
    if told["chances"]:
        parts += ["## How true the chances are", _chances(told)]
    if told["context auc"]:
        parts += ["## Context AUC by field", _context(told)]
    parts += [f"## {title}\n\n![{title}]({path.name})" for title, path in plots.items()]
    return "\n\n".join(parts) + "\n"


def _measured(told: Mapping[str, Any]) -> str:
    split, requests = told["split"], told["requests"]
    days = {name: stamp[:16].replace("T", " ") for name, stamp in split.items()}
    return (
        f"{told['events']:,} events, {told['users']:,} users, {told['items']:,} items; commit {told['commit']}, seed "
        f"{told['seed']}. Train from {days['train from']} ({requests['train']:,} lists), valid from "
        f"{days['valid from']} ({requests['valid']:,} requests), test from {days['test from']} to {days['test to']} "
        f"UTC ({requests['test']:,} requests of {requests['test users']:,} users, {requests['cold']:,} cold: fewer "
        f"than {told['cold below']} things done with items before).\n\n"
        f"Recall of the candidates {told['recall@200']:.3f}, ceiling {told['ceiling']:.3f} (items that anybody had "
        "done something with before). All rankers order the same at most 200 candidates, found and counted as of the "
        "moment of the request; what is not among them has rank infinity. Ties go by popularity, then by id. "
        "Intervals: 95 %, paired by request, drawn by user."
    )


def _rankers(told: Mapping[str, Any]) -> str:
    header = ("ranker", "NDCG@10", "HR@10", "MRR", "NDCG@10 over the blend", "", "seeds")
    return _table(header, (_ranker(told, name, row) for name, row in told["rankers"].items()))


def _ranker(told: Mapping[str, Any], name: str, row: Mapping[str, Any]) -> list[str]:
    over = row["over blend"][METRIC]
    mark = "**" if name == final(told) else ""
    star = " \\*" if name == told["best baseline"] else ""
    low, high = min(row["by seed"]), max(row["by seed"])
    seeds = f"{low:.4f}–{high:.4f}" if len(row["by seed"]) > 1 else ""
    gain = "" if name == BLEND else f"{over['gain']:+.4f} [{over['low']:+.4f}, {over['high']:+.4f}]"
    share = "" if name == BLEND else f"{over['share']:+.1%}"
    return [f"{mark}{name}{mark}{star}", *(f"{row[m]:.4f}" for m in (METRIC, "hr@10", "mrr")), gain, share, seeds]


def _compared(told: Mapping[str, Any]) -> str:
    rows = (
        [pair["of"], pair["over"], f"{pair['gain']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"]
        for pair in told["compared"]
    )
    text = _table(("ranker", "over", "NDCG@10"), rows)
    if told["placebos"]:
        text += (
            "\n\n“no scene”: trained and judged with every counter and token of the scene at nothing. The placebos are "
            "trained under wrong scenes and judged under the right one: “scene permuted” under that of another visit "
            "of the same user, “scene of others” under that of anybody’s visit in the same week. What the scene is "
            "worth must be gone in the latter; the former keeps what a user’s habits tell.\n\n"
        )
        header = ("placebo", "lists under another scene", "values that are the right ones (by chance)")
        text += _table(header, _wrong(told))
    return text


def _wrong(told: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, placebo in told["placebos"].items():
        alike = (f"{field} {part['given']:.0%} ({part['by_chance']:.0%})" for field, part in placebo["alike"].items())
        yield [name, f"{placebo['changed']:.0%}", ", ".join(alike)]


def _sides(told: Mapping[str, Any]) -> str:
    rows = ([name, *(_number(row[side], METRIC) for side in ("warm", "cold"))] for name, row in told["rankers"].items())
    return _table(("ranker", "warm NDCG@10", "cold NDCG@10"), rows)


def _costs(told: Mapping[str, Any]) -> str:
    rows = (
        [
            name,
            f"{row['coverage']:.3f}",
            _number(row, "diversity", 3),
            f"{row['gini']:.3f}",
            f"{row['fit_s']:.1f}",
            f"{row['ms_a_user']:.3f}",
        ]
        for name, row in told["rankers"].items()
    )
    header = ("ranker", "coverage@10", "diversity@10", "exposure Gini@10", "fit s", "ms a user")
    return (
        _table(header, rows) + f"\n\nSeconds and milliseconds are CPU; to find and count the candidates of a user took "
        f"{told['prepare_ms']:.1f} ms more. Diversity: pairs of different categories among the first ten."
    )


def _chances(told: Mapping[str, Any]) -> str:
    """Of each ranker with heads the figures before and after calibration, and what became of each grade."""
    header = ("ranker", "", "L", "log loss", "AUC", "ECE", "ECE by platform", "by slot")
    figures, graded = [], []
    for name, found in told["chances"].items():
        for when in ("uncalibrated", "calibrated"):
            row = found[when]
            own = [*(row[part] for part in ("L", "logloss", "auc", "ece")), *row["field ece"].values()]
            figures.append([name, when, *("–" if value is None else f"{value:.5f}" for value in own)])
        for grade, row in found["grades"].items():
            shares = (row["share of the best"], row["share"], row["acted"], row["strongly"])
            graded.append([name, grade, *("–" if value is None else f"{value:.2%}" for value in shares)])
    first = next(iter(told["chances"].values()))
    grades = ("ranker", "grade", "of the best of each request", "of all candidates", "acted on", "strongly")
    return (
        _table(header, iter(figures))
        + "\n\n"
        + _table(grades, iter(graded))
        + f"\n\nAn act counts within {first['window_ms'] / 3_600_000:g} h of the request, over all its candidates: "
        "chances are those of a user who takes something now. L: the mean of (0.5 p_rec + 0.5 p_best - observed)², "
        "weighted by grade, recency, slot and scene, and user."
    )


def _context(told: Mapping[str, Any]) -> str:
    fields = list(dict.fromkeys(field for row in told["context auc"].values() for field in row))
    rows = ([name, *(_interval(row.get(field)) for field in fields)] for name, row in told["context auc"].items())
    return (
        _table(("ranker", *fields), rows)
        + "\n\nHow often the taken item scores higher under the right value of the field than under a wrong one, same "
        "user and moment: 0.5 for whoever does not look at the field."
    )


def _interval(cell: Mapping[str, float] | None) -> str:
    return "" if cell is None else f"{cell['auc']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def _number(row: Mapping[str, Any] | None, name: str, digits: int = 4) -> str:
    return f"{row[name]:.{digits}f}" if row is not None and row.get(name) is not None else "–"


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
