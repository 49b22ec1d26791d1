"""A figure with its budget, the table that people read and the JSON that machines read."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

AT_MOST, AT_LEAST, AROUND = "≤", "≥", "~"


@dataclass(frozen=True)
class Figure:
    """One measured number; `value` None: not measured, and `how` says why. `holds` None: nothing to hold."""

    name: str
    value: float | None
    unit: str
    budget: str
    holds: bool | None
    how: str


def figure(name: str, value: float | None, unit: str, budget: tuple[str, float] | None, how: str) -> Figure:
    """A figure judged against its budget, such as (AT_MOST, 3.2); AROUND is an expectation and judges nothing."""
    if budget is None:
        return Figure(name, value, unit, "", None, how)
    sign, bound = budget
    text = f"{sign} {bound:g}"
    if value is None or sign == AROUND:
        return Figure(name, value, unit, text, None, how)
    return Figure(name, value, unit, text, value <= bound if sign == AT_MOST else value >= bound, how)


def show(title: str, figures: Sequence[Figure], console: Console) -> None:
    """Print the figures as one table."""
    table = Table(title=title, title_justify="left", caption=machine(), caption_justify="left")
    for heading in ("figure", "value", "unit", "budget", "holds", "how"):
        number = heading in {"value", "budget"}
        table.add_column(heading, justify="right" if number else "left", no_wrap=heading != "how")
    words = {True: "[green]yes[/]", False: "[red]no[/]", None: "–"}
    for f in figures:
        value = "–" if f.value is None else f"{f.value:,.4g}" if abs(f.value) < 1000 else f"{f.value:,.0f}"
        table.add_row(f.name, value, f.unit, f.budget, words[f.holds], f.how)
    console.print(table)


def write(path: Path, figures: Sequence[Figure]) -> None:
    """Write the figures with the commit and the machine they were measured on; `values` are the numbers by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {f.name: f.value for f in figures}
    whole = {"commit": commit(), "machine": machine(), "values": values, "figures": [asdict(f) for f in figures]}
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")


def commit() -> str:
    """The commit of the working tree, with "+" when files differ from it; empty outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if dirty.stdout.strip() else "")


def machine() -> str:
    """The processor, its cores, and how busy they are: what a reader needs to judge a number."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load, *_ = os.getloadavg()
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
