"""What a worker says on /ready before it reads, and when a breaker has stopped it; and what a life leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from streams.breaker import TooManyDeadLetters
from streams.life import Life
from streams.moves import Moves
from streams.placement import Placement
from streams.service import settings
from streams.service.waiting import Waiting
from streams.settings import StreamSettings
from streams.wiring import SIDES, Wiring
from streams.worker import Worker
from tests.unit.test_breaker import CLICKS, Kept, step


async def test_ready_names_the_partition_that_a_breaker_has_stopped() -> None:
    wiring = Wiring(settings.read(StreamSettings, {"KAIROS_BREAKER_RECORDS": "10"}), SIDES)
    worker = Worker(wiring.settings, SIDES)
    assert worker.missing() == {"worker": "It is starting."}
    told = asyncio.create_task(asyncio.sleep(0))
    worker.moves = Moves(worker.placement, lambda _namespace: Life(wiring, Waiting(), lambda: 1), told)
    assert worker.missing() == {"worker": "It is starting."}
    worker.moves.life = Life(wiring, Waiting(), lambda: 1)
    assert worker.missing() == {"worker": "It is starting."}
    assert len(wiring.breakers) == 2
    breaker = wiring.breakers[0]
    breaker._notes = Kept()  # there is no Redis
    with pytest.raises(TooManyDeadLetters):
        await breaker.admit([step("x" * 9)])
    assert worker.missing()[f"{CLICKS}:0"].startswith(f"{CLICKS}:0 stops at offsets 0 to 8")
    await wiring.tables.close()


async def test_a_life_does_not_keep_the_one_before_it_alive() -> None:
    read, over = settings.read(StreamSettings, {}), asyncio.Event()

    def life() -> Life:
        return Life(Wiring(read, SIDES), Waiting(), lambda: 1)

    async def of(life: Life) -> Life:
        await over.wait()
        return life

    before = life()
    task = asyncio.create_task(of(before))
    await asyncio.sleep(0)
    after, gone = life(), weakref.ref(before)
    over.set()
    await task
    await before.close()
    del before, task
    await asyncio.sleep(0.01)  # until the loop has let go of it as well
    gc.unfreeze()  # a life freezes what it finds
    gc.collect()
    assert gone() is None
    await after.close()


async def test_a_life_that_was_left_is_let_go_of() -> None:
    read, told = settings.read(StreamSettings, {"KAIROS_REDIS": "redis://127.0.0.1:1"}), asyncio.Event()
    placement, stopping = Placement(read.connections, 1, Waiting()), asyncio.create_task(told.wait())
    moves = Moves(placement, lambda _namespace: Life(Wiring(read, SIDES), Waiting(), lambda: 1), stopping)
    left = weakref.ref(moves._make("before"))
    moves._make("after")  # freezes what it finds
    await moves._stop(moves._lives[0])
    await asyncio.gather(*moves._closing)
    assert left() is None
    stopping.cancel()
    await moves.end()
    await placement.leave()
