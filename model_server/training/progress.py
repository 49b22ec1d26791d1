"""What a training tells while it runs: a bar with rate and time left for anything that takes seconds, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Advance = Callable[[int], None]


class Progress(Protocol):
    """Hears of steps and of how far they are."""

    def step(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """A step of `total` units; call what it yields with the units done."""

    def says(self, text: str) -> None:
        """A line of its own."""


class Silent:
    """Tells nothing."""

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Advance]:  # noqa: ARG002
        """Nothing is shown."""
        yield lambda _: None

    def says(self, text: str) -> None:
        """Nothing is shown."""


class Bars:
    """Bars on a terminal; lines where the console is a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, name: str, total: int) -> Iterator[Advance]:
        """A bar with rate and time left."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("took"),
            TimeElapsedColumn(),
        )
        with RichProgress(*columns, console=self._console) as bar:
            task = bar.add_task(name, total=total, rate="")

            def advance(units: int) -> None:
                bar.advance(task, units)
                speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
                bar.update(task, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance

    def says(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text)

    def table(self, table: Table) -> None:
        """A table."""
        self._console.print(table)
