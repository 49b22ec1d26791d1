"""The live board: rates, waiting times, the last pushes, and why everybody else was left in peace."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.demo.gateway import Push, percentile

SPARKS = "▁▂▃▄▅▆▇█"
BAR = 18
SHOWN_REASONS = 6
WORDS = {
    "opted_out": "wants no pushes",
    "token_dead": "has no device any more",
    "expired": "did it too long ago",
    "daily_cap": "had enough for a day",
    "minimum_gap": "had a push just now",
    "quiet_hours": "is asleep",
    "no_candidate": "nothing found",
    "unlisted": "item no longer sold",
    "out_of_stock": "item out of stock",
    "already_bought": "has bought it",
    "already_pushed": "was shown it before",
    "optout_risk": "might opt out",
    "grade": "nothing to recommend",
    "score": "not interesting enough",
}


@dataclass
class Board:
    """What the screen shows at one moment of the live part; `rates` are the last events/s, oldest first."""

    total_s: float
    elapsed_s: float = 0.0
    events: int = 0
    events_per_s: float = 0.0
    rates: list[float] = field(default_factory=list)
    rescored: int = 0
    rescored_per_s: float = 0.0
    candidates: int = 0
    opened: int = 0
    waits_ms: list[float] = field(default_factory=list)
    beyond_ms: list[float] = field(default_factory=list)
    silence: list[tuple[str, int]] = field(default_factory=list)
    pushes: list[tuple[Push, str, str]] = field(default_factory=list)  # with who, and the title

    def line(self) -> str:
        """The board in one line."""
        reasons = ", ".join(f"{words(rule)} {count:,}" for rule, count in self.silence[:3])
        return (
            f"{self.elapsed_s:3.0f} s  {self.events_per_s:5,.0f} events/s  {self.rescored_per_s:4,.0f} rescored/s  "
            f"{self.candidates:,} candidates  event to candidate {milliseconds(self.waits_ms)}"
            + (f"  silent: {reasons}" if reasons else "")
        )

    def draw(self) -> RenderableType:
        """The board as a panel of the console's width."""
        title = f"[bold]live[/] {min(self.elapsed_s, self.total_s):.0f} of {self.total_s:.0f} s"
        parts = (self._figures(), Text(), self._silence(), Text(), self._pushes())
        return Panel(Group(*parts), title=title, title_align="left", border_style="cyan", padding=(1, 2))

    def _figures(self) -> Table:
        grid = Table.grid(padding=(0, 2), expand=True)
        for justify in ("left", "right", "left", "left", "right"):
            grid.add_column(justify=justify, no_wrap=True)
        p50, p99 = percentile(self.waits_ms, 0.5), percentile(self.waits_ms, 0.99)
        beyond = percentile(self.beyond_ms, 0.99)
        seen = Text.assemble((f"{self.events:,} so far ", "bright_black"), (spark(self.rates), "cyan"))
        rescored, opened = f"{self.rescored:,} so far", f"{self.opened:,} opened"
        grid.add_row("events", strong(f"{self.events_per_s:,.0f}/s"), seen, "event → candidate, p50", ms(p50))
        grid.add_row(
            "users rescored", strong(f"{self.rescored_per_s:,.0f}/s"), dim(rescored), "event → candidate, p99", ms(p99)
        )
        grid.add_row(
            "push candidates", strong(f"{self.candidates:,}"), dim(opened), "p99 beyond the planned wait", ms(beyond)
        )
        return grid

    def _silence(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=26)
        grid.add_column(width=BAR)
        grid.add_column(justify="right")
        most = max((count for _, count in self.silence), default=1)
        grid.add_row(Text("left in peace, because …", "bold"), "", "")
        for rule, count in self.silence[:SHOWN_REASONS]:
            bar = Text("█" * max(round(BAR * count / most), 1), "yellow")
            grid.add_row(words(rule), bar, f"{count:,}")
        return grid

    def _pushes(self) -> Table:
        table = Table(box=None, padding=(0, 1), expand=True, show_header=True, header_style="bold", pad_edge=False)
        table.add_column("pushed", style="bright_black", width=8)
        table.add_column("to", max_width=28, no_wrap=True)
        table.add_column("what", ratio=1, no_wrap=True, style="green")
        table.add_column("fit", justify="right", width=5)
        table.add_column("found by", max_width=18, no_wrap=True, style="bright_black")
        for push, who, title in self.pushes:
            at = datetime.fromtimestamp(push.at_ms / 1000, UTC).strftime("%H:%M:%S")
            table.add_row(at, who, title, f"{push.final:.2f}", found_by(push.reason))
        return table


def found_by(reason: str) -> str:
    """The list that found a candidate, in words; those named by a length of time are of what is popular."""
    text = reason.replace("_", " ")
    return f"popular in {text}" if text[:1].isdigit() else text


def strong(text: str) -> Text:
    return Text(text, "bold cyan")


def dim(text: str) -> Text:
    return Text(text, "bright_black")


def ms(value: float | None) -> Text:
    return dim("–") if value is None else strong(f"{value:,.0f} ms")


def words(rule: str) -> str:
    """A rule in words."""
    return WORDS.get(rule, rule.replace("_", " "))


def milliseconds(values: list[float]) -> str:
    """Median and 99th percentile."""
    p50, p99 = percentile(values, 0.5), percentile(values, 0.99)
    return "p50 –  p99 –" if p50 is None or p99 is None else f"p50 {p50:,.0f}  p99 {p99:,.0f} ms"


def spark(values: list[float]) -> str:
    """A row of small bars, scaled to the largest value."""
    top = max(values, default=0.0) or 1.0
    return "".join(SPARKS[min(int(value / top * (len(SPARKS) - 1) + 0.5), len(SPARKS) - 1)] for value in values[-12:])
