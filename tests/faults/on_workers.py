"""Faults of stream workers and model workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

from tests.faults.fault import fault
from tests.faults.stage import Stage

HOUR_S = 3_600


@fault("worker")
async def worker_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """A stream worker is killed without warning."""
    (await stage.pick(stage.workers, random)).kill()
    yield


@fault("worker", lasts_s=(8, 12))
async def worker_frozen(stage: Stage, random: Random) -> AsyncIterator[None]:
    """A stream worker is frozen past its session timeout and wakes up: its partitions have two owners."""
    worker = await stage.pick(stage.workers, random)
    worker.pause()
    try:
        yield
    finally:
        worker.resume()


@fault("worker", lasts_s=(4, 8))
async def worker_joins_and_leaves(stage: Stage, random: Random) -> AsyncIterator[None]:
    """A further stream worker joins, and leaves again when told to."""
    guest = stage.join("worker")
    await asyncio.sleep(3)
    yield
    guest.leave()


@fault("worker", lasts_s=(3, 8))
async def worker_clock_ahead(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The clock of a stream worker jumps an hour ahead, and back."""
    clock = (await stage.pick(stage.workers, random)).clock
    clock.write_text(str(HOUR_S))
    yield
    clock.write_text("0")


@fault("worker", lasts_s=(3, 8))
async def worker_clock_behind(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The clock of a stream worker jumps an hour back, and forth."""
    clock = (await stage.pick(stage.workers, random)).clock
    clock.write_text(str(-HOUR_S))
    yield
    clock.write_text("0")


@fault("model")
async def model_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """A model worker is killed without warning; what it held is scored again when its leases run out."""
    (await stage.pick(stage.models, random)).kill()
    yield


@fault("model", lasts_s=(6, 10))
async def model_frozen(stage: Stage, random: Random) -> AsyncIterator[None]:
    """A model worker is frozen past its leases and wakes up: its users have two owners."""
    model = await stage.pick(stage.models, random)
    model.pause()
    try:
        yield
    finally:
        model.resume()


@fault("model", lasts_s=(4, 8))
async def model_joins_and_leaves(stage: Stage, random: Random) -> AsyncIterator[None]:
    """A further model worker joins, and leaves again when told to: it gives back whom it holds."""
    guest = stage.join("model")
    await asyncio.sleep(3)
    yield
    guest.leave()
