"""`make faults`: runs of random faults from a seed on, with a line for each and the figures over all."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from tests.bench.figures import show, write
from tests.faults.plan import Plan, PlanError, plan
from tests.faults.registry import FAULTS
from tests.faults.run import Run
from tests.faults.security import may_encrypt
from tests.faults.summary import Result, figures
from tests.faults.verdict import Verdict

OUT = Path("build/faults.json")
RUN_MAY_TAKE_S = 400
INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Exit status 0 when every run was right, 1 when one was not, 2 for an unknown seed or fault, 130 interrupted."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    wanted = [name for name in options.faults.split(",") if name]
    try:
        plans = [plan(seed, FAULTS, wanted) for seed in range(options.seed, options.seed + options.runs)]
    except PlanError as problem:
        console.print(f"[red]{problem}[/]")
        return 2
    for name in [name for name in os.environ if name.startswith("KAIROS_")]:
        del os.environ[name]  # the processes get theirs from the stage, and nothing else
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # they complain of what we do
    unable = {name: why for name, fault in FAULTS.items() if (why := fault.available())}
    started_s = time.monotonic()
    results: list[Result] = []
    try:
        for done in _performed(plans, unable, options.jobs, keep=options.keep):
            results.append(_told(done, console))  # noqa: PERF401 - an interruption keeps what was found until then
    except KeyboardInterrupt:
        console.print(f"[yellow]interrupted after {len(results)} of {len(plans)} runs[/]")
        if not results:
            return INTERRUPTED
    measured = figures(results, unable)
    show(f"Kairos under {len(results)} plans of faults, in {time.monotonic() - started_s:.0f} s", measured, console)
    write(options.out, measured)
    console.print(f"written to {options.out}")
    if len(results) < len(plans):
        return INTERRUPTED
    if all(result.verdict is None for result in results):
        console.print("[red]nothing was run: this machine can have none of these plans[/]")
        return 1
    return 0 if all(result.right or result.verdict is None for result in results) else 1


class _Done(NamedTuple):
    """A run that is over, and the folder of its logs and data where it was kept."""

    result: Result
    kept: Path | None = None


def _performed(plans: Sequence[Plan], unable: Mapping[str, str], jobs: int, *, keep: bool) -> Iterable[_Done]:
    """Every plan's run in turn, `jobs` of them at a time, each of those in a process of its own."""
    perform = partial(_perform, unable=unable, keep=keep)
    if jobs == 1:
        yield from map(perform, plans)
        return
    pool = ProcessPoolExecutor(jobs)
    try:
        yield from pool.map(perform, plans)
    finally:
        pool.shutdown(cancel_futures=True)


def _perform(plan: Plan, *, unable: Mapping[str, str], keep: bool) -> _Done:
    missing = [f"{planned.name}: {unable[planned.name]}" for planned in plan.faults if planned.name in unable]
    if plan.doors and (why := may_encrypt()):
        missing.append(why)
    if missing:
        return _Done(Result(plan, None, 0.0, missing[0]))
    folder = Path(tempfile.mkdtemp(prefix=f"kairos-faults-{plan.seed}-"))
    started_s = time.monotonic()
    try:
        verdict = asyncio.run(asyncio.wait_for(Run(plan, FAULTS, folder).perform(), RUN_MAY_TAKE_S))
    except Exception as problem:  # one run that broke must not hide what the others find
        verdict = Verdict(complaints=[f"the run itself broke: {traceback.format_exc()}{problem!r}"])
    result = Result(plan, verdict, time.monotonic() - started_s)
    if result.right and not keep:
        shutil.rmtree(folder, ignore_errors=True)
        return _Done(result)
    return _Done(result, folder)


def _told(done: _Done, console: Console) -> Result:
    """Print what became of a run."""
    result, plan = done.result, done.result.plan
    console.print(result.line())
    for complaint in result.verdict.complaints if result.verdict else ():
        console.print(f"    {complaint}", markup=False)
    if done.kept is not None:
        names = ",".join(planned.name for planned in plan.faults)
        console.print(f"    logs and data: {done.kept}; again: make faults SEED={plan.seed} RUNS=1   ({names})")
    return result


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        message = f"{text} proves nothing: one at least"
        raise argparse.ArgumentTypeError(message)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="first seed (default: %(default)s)")
    parser.add_argument("--jobs", type=_at_least_one, default=1, help="runs at a time (default: %(default)s)")
    parser.add_argument(
        "--runs", type=_at_least_one, default=len(FAULTS), help="seeds from there on (default: %(default)s)"
    )
    parser.add_argument("--faults", default="", help="these instead of the seed's own, comma-separated")
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures go (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that was right, too")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
