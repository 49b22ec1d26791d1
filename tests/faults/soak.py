"""`make soak`: half load without a fault for a long time; memory and queues must stay flat, every row right.

Half load is half of what the processes did with a burst of events right before, so it is the machine's own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from rich.console import Console

from model_server.policy.pushes import KEPT, Push, encode
from schemas.keys import Keys
from schemas.partition import partition_of
from streams.features.columns import item_code
from tests.bench.figures import show, write
from tests.faults.fault import Layout
from tests.faults.plan import Load, Plan
from tests.faults.run import Run
from tests.faults.soaked import Sampler, figures
from tests.faults.stage import PARTITIONS, Stage
from tests.faults.verdict import Verdict
from tests.faults.watch import Watch

OUT = Path("build/soak.json")
USERS, ITEMS, POISON = 5_000, 200, 0.01
BURST, BURSTS, MOST_PER_S = 3_000, 2, 1_000
SAMPLES = 240
AFTERWARDS_S = 900


class Soak(Run):
    """One run without faults, at a rate of its own finding; `sampler` holds what was seen."""

    def __init__(self, plan: Plan, folder: Path, console: Console, *, rate: int | None) -> None:
        super().__init__(plan, {}, folder)
        self.console, self.rate = console, rate
        self.sampler = Sampler()

    async def _before(self, stage: Stage, watch: Watch) -> None:
        self.sampler.stage, self.sampler.watch = stage, watch
        await self.sampler.note_empty()
        await _fill_push_logs(stage)
        per_s = self.rate or await self._half_load(stage, watch)
        stage.traffic.load = replace(stage.traffic.load, events_per_s=per_s)
        self.console.print(
            f"seed {self.plan.seed}: {per_s} events/s for {self.plan.least_s / 60:g} minutes, in {self.folder}"
        )

    async def _half_load(self, stage: Stage, watch: Watch) -> int:
        """Half of what was done a second with the last of some bursts; the first ones warm everything up."""
        took_s = 1.0
        for _ in range(BURSTS):
            began_s = time.monotonic()
            await stage.producer.send_all([stage.traffic.record(time.time_ns() // 1_000_000) for _ in range(BURST)])
            await self._drain(stage, watch, Verdict())
            took_s = time.monotonic() - began_s
        return min(MOST_PER_S, round(BURST / took_s / 2))

    async def _while_loaded(self, stage: Stage, verdict: Verdict) -> None:
        ends_s = time.monotonic() + self.plan.least_s
        while (now_s := time.monotonic()) < ends_s:
            await self.sampler.look()
            await asyncio.sleep(max(0.5, self.plan.least_s / SAMPLES - (time.monotonic() - now_s)))
        await self.sampler.note_full()


async def _fill_push_logs(stage: Stage) -> None:
    """Everybody was pushed before: the logs, and what a model worker holds of them, have the size they keep.

    Else they would grow all through the soak, to the length of a full one, and look like a leak.
    """
    then_ms = time.time_ns() // 1_000_000 - 86_400_000
    blob = encode(
        [
            Push(f"gone{n}", item_code(f"gone{n}"), then_ms + n, then_ms + 3_600_000, f"{n:032x}", f"{n:016x}", 0)
            for n in range(KEPT)
        ]
    )
    redis = stage.redis()
    try:
        for user in (b"u%d" % number for number in range(USERS)):
            await redis.set(Keys.pushes(stage.keys.user_tag(partition_of(user, PARTITIONS)), user), blob)
    finally:
        await redis.aclose()


def main(argv: Sequence[str]) -> int:
    """Exit status 0 when every row was right and nothing grew, 1 otherwise."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    for name in [name for name in os.environ if name.startswith("KAIROS_")]:
        del os.environ[name]  # the processes get theirs from the stage, and nothing else
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    load = Load(events_per_s=0, users=USERS, items=ITEMS, poison=POISON, transactional=False)
    plan = Plan(options.seed, Layout.SINGLE, load, workers=2, models=1, faults=(), least_s=60 * options.minutes)
    folder = Path(tempfile.mkdtemp(prefix="kairos-soak-"))
    soak = Soak(plan, folder, console, rate=options.rate)
    began_s = time.monotonic()
    verdict = asyncio.run(asyncio.wait_for(soak.perform(), plan.least_s + AFTERWARDS_S))
    measured = figures(soak.sampler, verdict, plan.least_s)
    show(f"Kairos at half load, in {time.monotonic() - began_s:.0f} s", measured, console)
    write(options.out, measured)
    soak.sampler.written(options.out.with_suffix(".csv"))
    console.print(f"written to {options.out}, the samples beside it")
    for complaint in verdict.complaints:
        console.print(f"    {complaint}", markup=False)
    right = not verdict.complaints and all(figure.holds is not False for figure in measured)
    if right:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"    logs and data: {folder}")
    return 0 if right else 1


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0.5 <= minutes <= 24 * 60:
        message = f"{text} minutes are no soak: from half a minute to a day"
        raise argparse.ArgumentTypeError(message)
    return minutes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=30, help="how long the load lasts (default: %(default)s)")
    parser.add_argument("--rate", type=int, help="events a second, instead of half of what this machine can do")
    parser.add_argument("--seed", type=int, default=Random().randrange(10_000), help="of the events")
    parser.add_argument("--out", type=Path, default=OUT, help="where the figures go (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
