"""What scores are owed to, as a page and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from model_server.attribution.parts import EVENTS, LAST_SEEN
from model_server.scoring import BASE
from streams.service.spans import span

if TYPE_CHECKING:
    from model_server.attribution.owed import Owed
    from model_server.attribution.parts import Part

LEAST_SHARE, MOST_SHOWN = 0.01, 15
"""Smaller shares, and more of them, stand in one line on the page."""
ANYBODY = "anybody"
"""Of whom nothing is known: what is there without any part of the user."""


def facts(owed: Owed) -> dict[str, Any]:
    """Every share of an item's logit as plain values, in logits."""
    return {
        "logit": owed.logit,
        "found": owed.found,
        "shares": [
            {
                "sort": part.sort,
                "name": part.name,
                **({"value": part.value} if part.value else {}),
                **({"times": part.times} if part.times else {}),
                **({"age_ms": part.age_ms} if part.sort == "history" or part.name == LAST_SEEN else {}),
                "share": share,
                "error": error,
            }
            for (part, share), error in zip(owed.shares, owed.errors, strict=True)
        ],
        ANYBODY: dict(owed.unseen),
        "residual": owed.residual,
    }


def page(owed: Owed) -> Group:
    """The shares for people: of the user's parts, greatest first, then of what is there for anybody."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("share", "±", "", "owed to"):
        table.add_column(name, justify="right" if name in {"share", "±"} else "left")
    own = sorted(zip(owed.shares, owed.errors, strict=True), key=lambda each: -abs(each[0][1]))
    shown = [each for each in own[:MOST_SHOWN] if abs(each[0][1]) >= LEAST_SHARE]
    for (part, share), error in shown:
        table.add_row(_signed(share), f"{error:.2f}", part.sort, Text(words(part)))
    _rest(table, [share for (_, share), _ in own[len(shown) :]], "other part")
    unseen = sorted(owed.unseen.items(), key=lambda pair: (pair[0] == BASE, -abs(pair[1])))
    for name, share in unseen:
        if abs(share) >= LEAST_SHARE or name == BASE:
            table.add_row(_signed(share), "", ANYBODY, Text(name))
    _rest(table, [share for name, share in unseen if abs(share) < LEAST_SHARE and name != BASE], "other group")
    table.add_row(
        f"[bold]{_signed(owed.logit)}[/]", "", "", f"[bold]the logit[/] [dim]({owed.residual:+.1e} unexplained)[/]"
    )
    return Group(table, "")


def _rest(table: Table, shares: Sequence[float], what: str) -> None:
    """One line for shares too small to have one each."""
    if shares:
        table.add_row(_signed(sum(shares)), "", "", f"[dim]{len(shares)} {what}{'s' if len(shares) > 1 else ''}[/]")


def words(part: Part) -> str:
    """A part as people read it."""
    if part.sort == "scene":
        return f"{part.name} {part.value}"
    if part.sort == "history":
        times = f" ×{part.times}, newest" if part.times > 1 else ","
        return f"{part.name}  {part.value}{times} {span(part.age_ms)} ago"
    if part.sort == "window":
        return f"{part.times} events in {part.name}"
    if part.name == EVENTS:
        return f"{part.times} events ever"
    return f"last seen {span(part.age_ms)} ago" if part.name == LAST_SEEN else f"{part.name} {part.value}"


def _signed(share: float) -> str:
    return f"{share:+.3f}"
