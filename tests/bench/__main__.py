"""`python -m tests.bench`: all figures in one table and in build/bench.json; status 1 only when rows were wrong."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.bench.candidates import candidate_figures
from tests.bench.check import WrongRowsError
from tests.bench.contender import ContenderError
from tests.bench.figures import Figure, show, write
from tests.bench.full_row import full_row_figures, live_figures, memory_figures
from tests.bench.growth import growth_figures
from tests.bench.lab import Lab, open_lab
from tests.bench.operations import operations_figures
from tests.bench.operations_dead_letters import dead_letter_figures
from tests.bench.operations_parity import parity_figures
from tests.bench.operations_promote import promote_figures
from tests.bench.reference_work import reference_figures


def ranker_part(lab: Lab) -> list[Figure]:
    """The ranker alone; it needs no servers."""
    from tests.bench.ranker import ranker_figures  # brings torch, which would only slow the other parts down

    lab.say("the ranker alone")
    return ranker_figures()


def batching_part(lab: Lab) -> list[Figure]:
    """The model worker's gain from batches."""
    from tests.bench.batching import batching_figures  # torch again

    return batching_figures(lab)


OUT = Path("build/bench.json")
PARTS: dict[str, Callable[[Lab], list[Figure]]] = {
    "reference": reference_figures,
    "full": full_row_figures,
    "memory": memory_figures,
    "live": live_figures,
    "growth": growth_figures,
    "candidates": candidate_figures,
    "batching": batching_part,
    "ranker": ranker_part,
}
APART: dict[str, Callable[[Lab], list[Figure]]] = {
    "operations": operations_figures,
    "letters": dead_letter_figures,
    "parity": parity_figures,
    "promote": promote_figures,
}
"""Parts that take minutes of their own and are measured when they are named."""


def main(argv: list[str]) -> int:
    """Measure the parts named on the command line, all of PARTS without."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}, all by default, and {', '.join(APART)}"
    )
    parser.add_argument("--out", type=Path, help=f"where the figures go ({OUT} for all parts, else nowhere)")
    arguments = parser.parse_args(argv)
    chosen = arguments.parts or list(PARTS)
    out = arguments.out or (OUT if chosen == list(PARTS) else None)
    parts = PARTS | APART
    if unknown := set(chosen) - parts.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}: choose of {', '.join(parts)}")
    console, started_s = Console(), time.monotonic()
    figures: list[Figure] = []
    status = 0
    with open_lab(console) as lab:
        for part in chosen:
            try:
                figures += parts[part](lab)
            except (ContenderError, WrongRowsError) as wrong:
                console.print(f"[red]{part}: {wrong}[/]")
                status = 1
    show(f"Kairos, measured in {time.monotonic() - started_s:.0f} s", figures, console)
    if out:
        write(out, figures)
        console.print(f"written to {out}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
