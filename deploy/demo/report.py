"""The demo's result: checked, shown as a panel, and written to build/demo.json."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deploy.demo.board import words
from deploy.demo.ledger import Balance


@dataclass
class Report:
    """What the demo measured. Times in ms run from Kafka's acknowledgement of an event to its candidate in Kafka.

    `beyond_p99_ms` leaves out the delay by which events of a class wait by design; `places_ms`: (p50, p99) of what the
    model worker says of its own waiting, by place.
    """

    events: int = 0
    events_per_s: float = 0.0
    live_events: int = 0
    users: Balance | None = None
    items: Balance | None = None
    users_rescored: int = 0
    candidates: int = 0
    repeated: int = 0
    opened: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    beyond_p99_ms: float | None = None
    places_ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    silence: dict[str, int] = field(default_factory=dict)
    ranker: str = ""
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Events that are in Kafka and not in the rows of their users, or of their items."""
        return sum(balance.lost for balance in (self.users, self.items) if balance is not None)

    @property
    def doubled(self) -> int:
        """Events that rows count more often than Kafka has them."""
        return sum(balance.doubled for balance in (self.users, self.items) if balance is not None)

    @property
    def holds(self) -> bool:
        """Whether everything was checked, nothing is lost or doubled, and there were candidates."""
        checked = self.users is not None and self.items is not None
        return checked and self.lost == 0 and self.doubled == 0 and self.candidates > 0

    def as_json(self) -> dict[str, Any]:
        """The flat figures, then the same with units and budgets."""
        flat: dict[str, Any] = {
            "events": self.events,
            "candidates": self.candidates,
            "lost": self.lost,
            "doubled": self.doubled,
            "event_to_candidate_p99_ms": rounded(self.p99_ms),
            "events_per_s": round(self.events_per_s),
            "users_rescored": self.users_rescored,
        }
        more = {
            "event_to_candidate_p50_ms": rounded(self.p50_ms),
            "beyond_delay_p99_ms": rounded(self.beyond_p99_ms),
            "waited_ms": {place: {"p50": p50, "p99": p99} for place, (p50, p99) in self.places_ms.items()},
            "live_events": self.live_events,
            "repeated_candidates": self.repeated,
            "opened": self.opened,
            "silence": self.silence,
            "ranker": self.ranker,
            "seconds": round(self.seconds, 1),
        }
        figures = [
            figure(
                "lost", self.lost, "events", "= 0", self.lost == 0, "rows of all users and items against the ledger"
            ),
            figure("doubled", self.doubled, "events", "= 0", self.doubled == 0, "the same"),
            figure("candidates", self.candidates, "candidates", "> 0", self.candidates > 0, "recommendations.v1"),
        ]
        return {"commit": commit(), "machine": machine(), **flat, **more, "figures": figures}

    def write(self, path: Path) -> None:
        """Write the figures as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2) + b"\n")

    def panel(self, path: Path) -> RenderableType:
        """The summary."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(justify="right", style="bold cyan", no_wrap=True)
        grid.add_column()
        for number, text in self._lines():
            grid.add_row(number, text)
        grid.add_row("", Text(f"figures: {path}", "bright_black"))
        colour = "green" if self.holds else "red"
        title = "[bold]every event counted exactly once[/]" if self.holds else "[bold]something is wrong[/]"
        return Panel(grid, title=title, title_align="left", border_style=colour, padding=(1, 2))

    def _lines(self) -> list[tuple[str, str]]:
        lines = [(f"{self.events:,}", f"events acknowledged by Kafka, {self.live_events:,} of them live")]
        for name, balance in (("users", self.users), ("items", self.items)):
            if balance is not None:
                counted = f"{balance.events:,} counted in the rows of {balance.rows:,} {name}"
                lines.append((f"{balance.lost} / {balance.doubled}", f"lost / doubled: {counted}"))
        lines += [
            (
                f"{self.events_per_s:,.0f}/s",
                "events of the past folded into rows, Kafka and everything on this machine",
            ),
            (f"{self.users_rescored:,}", "times a user was scored again or left in peace, each with its reason"),
            (f"{self.candidates:,}", f"push candidates, {self.opened:,} opened, {self.repeated:,} repeated"),
        ]
        if self.p50_ms is not None and self.p99_ms is not None:
            lines.append((f"{self.p99_ms:,.0f} ms", f"from event to candidate, p99; p50 {self.p50_ms:,.0f} ms"))
        if self.beyond_p99_ms is not None:
            lines.append((f"{self.beyond_p99_ms:,.0f} ms", "of it beyond the wait by design, p99"))
        if self.places_ms:
            parts = ", ".join(f"{place} {p50:,.0f} / {p99:,.0f}" for place, (p50, p99) in self.places_ms.items())
            lines.append(("", f"model worker, p50 / p99 ms: {parts}"))
        if self.silence:
            top = ", ".join(f"{words(rule)} {count:,}" for rule, count in list(self.silence.items())[:2])
            lines.append((f"{sum(self.silence.values()):,}", f"left in peace: {top}"))
        return lines

    def text(self) -> list[str]:
        """The summary as plain lines."""
        return [f"{number:>12}  {line}" for number, line in self._lines()]


def figure(name: str, value: float, unit: str, budget: str, holds: bool, how: str) -> dict[str, Any]:
    """One figure as every measuring target writes it."""
    return {"name": name, "value": value, "unit": unit, "budget": budget, "holds": holds, "how": how}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def commit() -> str:
    """The commit that runs, "" outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def machine() -> str:
    """System, processor kind and number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
