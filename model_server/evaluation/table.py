"""An evaluation on the terminal: a row a ranker, and the sentences that the numbers allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model_server.evaluation.ranker import METRIC
from model_server.evaluation.report import final
from model_server.training.train import BLEND

if TYPE_CHECKING:
    from rich.table import Table


def table(told: Mapping[str, Any]) -> Table:
    """Every ranker on test; the best baseline is marked."""
    from rich.table import Table

    made = Table(title=f"{told['log']}: {told['requests']['test']:,} test requests")
    made.add_column("ranker", no_wrap=True)
    for name in ("NDCG@10", "HR@10", "MRR", "over the blend"):
        made.add_column(name, justify="right")
    for name, row in told["rankers"].items():
        over = row["over blend"][METRIC]
        gain = "" if name == BLEND else f"{over['gain']:+.4f} [{over['low']:+.4f}, {over['high']:+.4f}]"
        cells = [f"{row[metric]:.4f}" for metric in (METRIC, "hr@10", "mrr")]
        mark = " *" if name == told["best baseline"] else ""
        made.add_row(name + mark, *cells, gain, style="bold" if name == final(told) else None)
    return made


def claims(told: Mapping[str, Any]) -> Table:
    """What must be seen in a planted shop, and what was."""
    from rich.table import Table

    made = Table(title="What was planted, and what is found again")
    made.add_column("claim")
    for name in ("value", "95 %", "holds"):
        made.add_column(name, justify="right")
    for claim in told["claims"]:
        row = (claim["says"], f"{claim['value']:.4f}", f"{claim['low']:.4f} … {claim['high']:.4f}")
        made.add_row(*row, "yes" if claim["holds"] else "NO", style=None if claim["holds"] else "bold")
    return made


def sentences(told: Mapping[str, Any]) -> list[str]:
    """Recall, the paired gains, and what to mistrust."""
    requests = told["requests"]
    recall = f"Recall of the candidates {told['recall@200']:.3f} of at most {told['ceiling']:.3f}"
    lines = [f"{recall}; {requests['cold']:,} of {requests['test']:,} requests by cold users."]
    lines += [
        f"{pair['of']} over {pair['over']}: {pair['gain']:+.4f} NDCG@10 [{pair['low']:+.4f}, {pair['high']:+.4f}]."
        for pair in told["compared"]
    ]
    return lines + list(told["warnings"])
