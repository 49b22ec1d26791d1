"""What a dry run found, as a page."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table

GROUPS = {
    "kinds": "events by kind",
    "rejects": "no events, by reason",
    "results": "left out or converted",
    "late": "came later than it happened by",
}


def shown(counts: Mapping[str, int], seconds: float) -> RenderableType:
    """Counts by name, as `Counting` gives them."""
    events = counts.get("events", 0)
    speed = events / max(seconds, 1e-9)
    head = f"[green]✓[/] {events:,} events of {counts.get('users', 0):,} users, {speed:,.0f} events/s"
    if counts.get("catalogue"):
        head += f"; {counts['catalogue']:,} catalogue records"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    for group, title in GROUPS.items():
        found = {name.partition(".")[2]: n for name, n in counts.items() if name.startswith(f"{group}.") and n}
        for place, (word, number) in enumerate(sorted(found.items(), key=lambda pair: -pair[1])):
            table.add_row("" if place else title, word, f"{number:,}")
    return Group(head, table)
