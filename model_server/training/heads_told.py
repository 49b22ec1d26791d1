"""What the heads came to, in sentences: how true their chances are, what a grade is worth, what was only assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_server.heads.grades import NAMES

WHAT = {"opens": "opens the push", "opts_out": "opts out after a push", "comes": "comes anyway"}
HOUR_MS = 3_600_000


def sentences(told: Mapping[str, Any]) -> list[str]:
    """The heads of a report."""
    return [_grades(told), *_cascade(told), *(_side(WHAT[name], side) for name, side in told["sides"].items())]


def _grades(told: Mapping[str, Any]) -> str:
    cut, grades = told["cutoffs"], told["grades"]
    parts = [
        f"{name.replace('_', ' ')} {grade['share of the best']:.0%}"
        + ("" if grade["acted"] is None else f" (acted on {grade['acted']:.2%}, strongly {grade['strongly']:.2%})")
        for name, grade in ((name, grades[name]) for name in reversed(NAMES))
    ]
    return (
        f"Grades of the best candidates on {told['measured on']}, of all such candidates in brackets: "
        f"{', '.join(parts)}; recommended from {cut['recommended']:.4f}, best match from {cut['best']:.4f}."
    )


def _cascade(told: Mapping[str, Any]) -> list[str]:
    if told["acts"] != "learned":
        return ["Acts: too few were seen to learn from; chances are the score's own."]
    raw, found = told["uncalibrated"], told["calibrated"]
    hours = told["window_ms"] / HOUR_MS
    lines = [
        f"Acts within {hours:g} h, logits from {told['logits from']}, calibration "
        f"{told['calibration']['act']}: L {raw['L']:.5f} -> {found['L']:.5f} calibrated, "
        f"log loss {raw['logloss']:.5f} -> {found['logloss']:.5f}, ECE {raw['ece']:.5f} -> {found['ece']:.5f}, by "
        + ", ".join(f"{name} {raw['field ece'][name]:.5f} -> {e:.5f}" for name, e in found["field ece"].items())
        + f"; AUC {_auc(found['auc'])}."
    ]
    if told["best"] == "learned":
        lines.append(
            f"Strong acts: log loss {found['logloss best']:.5f}, ECE {found['ece best']:.5f}, "
            f"AUC {_auc(found['auc best'])}."
        )
    elif told["best"] == "rate":
        lines.append("Strong acts: nearly all acts are, or are not; their share among acts stands for every candidate.")
    else:
        lines.append(
            "Strong acts: the log has none; the chance is a share of the item's events, as before any training."
        )
    return lines


def _side(what: str, side: Mapping[str, Any]) -> str:
    if side["how"] == "prior":
        return f"Chance that a user {what}: the log tells nothing, so it is assumed: {side['prior']}."
    cases = f"{side['positive']:,} of {side['cases']:,}"
    judged = side["judged"]
    if side["how"] == "rate" and judged is not None:
        return f"Chance that a user {what}: {cases} times, and whom is not told by what is known of users: their rate."
    if side["how"] == "rate":
        return (
            f"Chance that a user {what}: {cases} times, too few to learn whom: their rate, mixed with {side['prior']}."
        )
    return (
        f"Chance that a user {what}: learned from {cases} times; on the newest {judged['cases']:,} "
        f"AUC {_auc(judged['auc'])}, log loss {judged['logloss']:.4f}, "
        f"of the rate alone {judged['logloss of the rate']:.4f}."
    )


def _auc(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
