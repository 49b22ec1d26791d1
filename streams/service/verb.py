"""What the operator's verbs have in common: how a plan, progress and a verdict reach a person or a program.

With `--json` standard output is one JSON object and nothing else; progress and complaints go to standard error.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.service import arguments
from streams.service.spans import span

GOOD, BAD = 0, 1
SAY_EVERY_S = 10.0
"""How often progress is said where there is no terminal to draw on."""


def parser(name: str, about: str, *classes: type, acts: bool) -> argparse.ArgumentParser:
    """See `arguments.parser`; `acts`: it changes something on --execute."""
    made = arguments.parser(name, about, *classes)
    made.add_argument("--json", action="store_true", help="one JSON object instead of a page")
    if acts:
        made.add_argument("--execute", action="store_true", help="do it; without this the plan is all that happens")
    return made


class Telling:
    """Tells people (pages, a bar) or, `as_json`, programs (one object at the end)."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)
        self._told: dict[str, Any] = {}

    def page(self, shown: RenderableType) -> None:
        """Something for people alone."""
        if not self.as_json:
            self.console.print(shown)

    def facts(self, **facts: object) -> None:
        """Something for programs alone; later facts of a name replace earlier ones."""
        self._told |= facts

    def plan(self, plan: Mapping[str, object], shown: RenderableType, *, execute: bool) -> None:
        """The plan, and that it is only a plan where it is."""
        self.facts(plan=dict(plan), executed=execute)
        self.page(shown)
        if not execute:
            self.page("[dim]This is the plan: nothing was done. Add --execute to do it.[/]")

    def complain(self, sentence: str) -> None:
        """Say what is wrong on standard error."""
        self.facts(error=sentence)
        self._errors.print(sentence, markup=False)

    @contextmanager
    def progress(self, what: str, total: float, unit: str = "records", *, begun: float = 0) -> Iterator[Bar]:
        """A bar with rate and time left on a terminal, else a line every ten seconds; on standard error.

        `begun`: so much was done before, by a run that ended in the middle.
        """
        bar = Bar(self._errors, what, total, unit, begun)
        with bar.drawn:
            yield bar

    def end(self, status: int, *, compact: bool = False) -> int:
        """Write the object where one is wanted, `compact` on one line; returns `status`, the exit code."""
        if self.as_json:
            form = 0 if compact else orjson.OPT_INDENT_2
            sys.stdout.write(orjson.dumps(self._told | {"status": status}, option=form).decode() + "\n")
            sys.stdout.flush()
        return status


class Bar:
    """Progress of one piece of work in `unit`s; `per_s` is its rate since it began."""

    def __init__(self, console: Console, what: str, total: float, unit: str, begun: float = 0) -> None:
        self._console, self._what, self._total, self._unit = console, what, total, unit
        self._begun = begun
        self._began_s = self._said_s = time.monotonic()
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self.drawn = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self.drawn.add_task(what, total=total, completed=int(begun), rate="")
        self.done = begun

    @property
    def per_s(self) -> float:
        """Units a second until now."""
        return max(self.done - self._begun, 0) / max(time.monotonic() - self._began_s, 1e-9)

    def at(self, done: float, total: float | None = None) -> None:
        """So much is done, of a total that may have grown."""
        self.done, self._total = done, self._total if total is None else total
        per_s = self.per_s
        rate = f"{per_s:,.0f} {self._unit}/s"
        self.drawn.update(self._task, completed=done, total=self._total, rate=rate)
        now_s = time.monotonic()
        if not self._console.is_terminal and now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            left = f", {span(1000 * round((self._total - done) / per_s))} left" if per_s else ""
            self._console.print(f"{self._what}: {done:,.0f} of {self._total:,.0f}, {rate}{left}")
