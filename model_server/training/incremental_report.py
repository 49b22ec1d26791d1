"""What an incremental training came to, as numbers for its bundle and as sentences for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_server.training.incremental import Continued


def facts(continued: Continued, on: str) -> dict[str, Any]:
    """Plain numbers; `on` is the version that it went on from."""
    return {
        "on": on,
        "new": continued.new,
        "replayed": continued.replayed,
        "gate": dataclasses.asdict(continued.gate),
        "refused": continued.why_not,
        "drift": [drift._asdict() for drift in continued.drifts],
    }


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What the numbers say."""
    gate = told["gate"]
    lines = [
        f"Went on from {told['on']} with {told['new']:,} new requests and {told['replayed']:,} older ones.",
        (
            f"Gate, {gate['requests']:,} requests since {_time(gate['since_ms'])} that neither learned from: "
            f"NDCG@10 {gate['ndcg']:.4f} against {gate['ndcg_in_force']:.4f} in force "
            f"({gate['ndcg'] - gate['ndcg_in_force']:+.4f} [{gate['low']:+.4f}, {gate['high']:+.4f}]), "
            f"ECE {gate['ece']:.4f} against {gate['ece_in_force']:.4f}."
        ),
    ]
    for drift in told["drift"]:
        how = "worse" if drift["after"] < drift["before"] else "better"
        lines.append(
            f"Drift noticed at {_time(drift['at_ms'])}: the bundle in force ranks {how} since "
            f"({drift['before']:.4f} -> {drift['after']:.4f} NDCG@10 on training lists)."
        )
    if any(drift["after"] < drift["before"] for drift in told["drift"]):
        lines.append("What it learned long ago may no longer hold: a whole training (`kairos train`) sees that too.")
    if told["refused"]:
        lines.append(f"Not promoted: {told['refused']}.")
    return lines


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
