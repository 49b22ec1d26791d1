"""What the demo shows: steps with progress, then the live board; drawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.cells import set_cell_size
from rich.console import Console, ConsoleRenderable, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

BAR = 22
PLAIN_EVERY_S = 2.0
Clock = Callable[[], float]


class Step:
    """One step under way: `progress` as it goes, `says` for what is left standing when it is done."""

    def __init__(self, doing: str, clock: Clock) -> None:
        self.text, self._clock = doing, clock
        self._spinner = Spinner("dots", style="cyan")
        self._began_s = clock()
        self.done, self.total, self._from = 0.0, 0.0, (0.0, 0.0)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._began_s

    def says(self, text: str) -> None:
        """Replace the text of the step."""
        self.text = text

    def part(self, text: str) -> None:
        """Go on to the next part of the step, with a progress of its own."""
        self.text, self.done, self.total = text, 0.0, 0.0

    def progress(self, done: float, total: float) -> None:
        """Note that `done` of `total` is through; rate and time left follow from it."""
        if not self.total:
            self._from = (self._clock(), done)
        self.done, self.total = done, max(total, 1.0)

    @property
    def rate(self) -> float:
        """Units a second since the first progress."""
        since_s, first = self._from
        return (self.done - first) / max(self._clock() - since_s, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds left at that rate, None while it cannot be told."""
        return (self.total - self.done) / self.rate if self.total and self.rate > 0 else None

    def figures(self) -> str:
        """Share, rate and time left in words."""
        left = "" if self.left_s is None else f"{self.left_s:3.0f} s left"
        return f"{self.done / self.total:4.0%} {self.rate:8,.0f}/s {left}"

    def __rich__(self) -> ConsoleRenderable:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=3, justify="right")
        row.add_column(min_width=36)
        cells: list[RenderableType] = [self._spinner, Text(self.text)]
        if self.total:
            full = round(BAR * min(self.done / self.total, 1.0))
            bar = Text("━" * full, "cyan") + Text("━" * (BAR - full), "bright_black")
            cells += [bar, Text(self.figures(), "bright_black")]
        else:
            cells += [Text(f"{self.elapsed_s:5.1f} s", "bright_black")]
        row.add_row(*cells)
        return row


class Screen:
    """Writes to a console; `clock` in seconds, so that tests need no patience."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self._plain_s = 0.0

    @property
    def rich(self) -> bool:
        """Whether the console can be drawn on."""
        return bool(self.console.is_terminal and not self.console.is_dumb_terminal)

    def title(self, name: str, about: str) -> None:
        """The two lines at the top."""
        self.console.print(Text.assemble("\n  ", (name, "bold cyan"), ("  " + about, "")))
        self.console.print()

    def note(self, text: str) -> None:
        """A line of plain information below a step."""
        indented = Padding(Text(text, "bright_black"), (0, 2, 0, 6))
        self.console.print(indented if self.rich else f"      {text}", soft_wrap=not self.rich)

    @contextmanager
    def step(self, doing: str) -> Iterator[Step]:
        """Show a step while it runs; afterwards one line stays with a tick (or a cross) and how long it took."""
        step = Step(doing, self.clock)
        try:
            if self.rich:
                with Live(step, console=self.console, refresh_per_second=12, transient=True):
                    yield step
            else:
                self.console.print(f"  … {doing}")
                yield _Plain(step, self)
        except BaseException:
            self._finish(step, "✘", "red")
            raise
        self._finish(step, "✔", "green")

    def _finish(self, step: Step, mark: str, style: str) -> None:
        width = max(self.console.width - 16, 40)
        text = set_cell_size(step.text, width) if self.rich else step.text
        line = Text.assemble(("  " + mark + " ", style), text, (f" {step.elapsed_s:6.1f} s", "bright_black"))
        self.console.print(line, soft_wrap=True)

    @contextmanager
    def board(self, draw: Callable[[], RenderableType], line: Callable[[], str]) -> Iterator[Callable[[], None]]:
        """Show `draw` four times a second, or `line` every five seconds; call what it yields now and then."""
        if self.rich:
            with Live(get_renderable=draw, console=self.console, refresh_per_second=4):
                yield lambda: None
            return
        began_s = self.clock()
        told = [began_s]

        def tell() -> None:
            if self.clock() - told[0] >= 5.0:
                told[0] = self.clock()
                self.console.print("    " + line(), highlight=False, soft_wrap=True)

        yield tell


class _Plain(Step):
    """A step told in lines: one every two seconds while something moves."""

    def __init__(self, step: Step, screen: Screen) -> None:
        super().__init__(step.text, screen.clock)
        self._step, self._screen = step, screen
        self._told_s = screen.clock()

    def says(self, text: str) -> None:
        self._step.says(text)

    def part(self, text: str) -> None:
        super().part(text)
        self._screen.console.print(f"    … {text}", soft_wrap=True)

    def progress(self, done: float, total: float) -> None:
        super().progress(done, total)
        if self._screen.clock() - self._told_s >= PLAIN_EVERY_S:
            self._told_s = self._screen.clock()
            self._screen.console.print(f"      {self.figures()}", highlight=False)
