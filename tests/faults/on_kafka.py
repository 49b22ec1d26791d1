"""Faults of the brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

from deploy.stack import Broker
from tests.faults.fault import EXIT_AGAIN, EXIT_STUCK, ONE_BROKER, FaultError, Layout, fault
from tests.faults.servers import may_mount
from tests.faults.stage import Stage, until

BROKERS = frozenset({Layout.BROKERS})
AWAY_EXITS = (EXIT_AGAIN,)
BACK_EXITS = (EXIT_STUCK, EXIT_AGAIN)
"""Stuck: aiokafka's coordination ends for good when the only broker has just come back and names no brokers at all."""


@fault("kafka", lasts_s=(2, 6), layouts=ONE_BROKER, takes_back=True, exits=BACK_EXITS)
async def broker_stopped(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The only broker is shut down in order (SIGTERM) and comes back."""
    (broker,) = stage.servers.brokers
    await asyncio.to_thread(broker.stop)
    yield
    await asyncio.to_thread(broker.start)


@fault("kafka", lasts_s=(1, 4), layouts=ONE_BROKER, exits=BACK_EXITS)
async def broker_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The only broker is killed (SIGKILL) and recovers its log."""
    (broker,) = stage.servers.brokers
    await asyncio.to_thread(broker.kill)
    yield
    await asyncio.to_thread(broker.start)


@fault("kafka", lasts_s=(40, 40), layouts=ONE_BROKER, exits=BACK_EXITS)
async def broker_away(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The only broker is away for 40 s."""
    (broker,) = stage.servers.brokers
    await asyncio.to_thread(broker.kill)
    yield
    await asyncio.to_thread(broker.start)


@fault("kafka", lasts_s=(10, 20), layouts=ONE_BROKER, exits=AWAY_EXITS)
async def broker_frozen(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The only broker keeps its connections and answers nothing (SIGSTOP)."""
    (broker,) = stage.servers.brokers
    broker.pause()
    try:
        yield
    finally:
        broker.resume()


@fault("kafka", lasts_s=(2, 6), layouts=ONE_BROKER, needs=("small disk",), exits=BACK_EXITS, available=may_mount)
async def broker_disk_full(stage: Stage, random: Random) -> AsyncIterator[None]:
    """The broker's disk is full, which ends it; it is started again when there is room."""
    (broker,) = stage.servers.brokers
    ballast = stage.servers.disk / "ballast"
    await asyncio.to_thread(_fill, ballast)

    async def ended() -> bool:
        return not broker.running

    await until(ended, 60, "the end of a broker without disk")
    yield
    ballast.unlink()
    await asyncio.to_thread(broker.start)


def _fill(path: object) -> None:
    """Write until nothing more fits, again and again: what the broker frees is taken too."""
    with open(str(path), "ab", buffering=0) as file:  # noqa: PTH123 - a path on another file system
        for size_bytes in (1 << 20, 4_096, 1):
            try:
                while file.write(b"\0" * size_bytes):
                    pass
            except OSError:
                continue


@fault("kafka", lasts_s=(4, 12), layouts=BROKERS, exits=AWAY_EXITS)
async def leader_killed(stage: Stage, random: Random) -> AsyncIterator[None]:
    """One of three brokers is killed: its partitions get other leaders, and a leader of the group goes."""
    broker = await _leader(stage, random)
    await asyncio.to_thread(broker.kill)
    yield
    await asyncio.to_thread(broker.start)


@fault("kafka", lasts_s=(8, 15), layouts=BROKERS, exits=AWAY_EXITS)
async def leader_frozen(stage: Stage, random: Random) -> AsyncIterator[None]:
    """One of three brokers is frozen until the others have taken over, and wakes up as one that does not know."""
    broker = await _leader(stage, random)
    broker.pause()
    try:
        yield
    finally:
        broker.resume()


@fault("kafka", lasts_s=(0, 2), layouts=BROKERS, exits=AWAY_EXITS)
async def brokers_one_by_one(stage: Stage, random: Random) -> AsyncIterator[None]:
    """All three brokers are shut down and started again, one after the other, as in an upgrade."""
    for broker in stage.servers.brokers:
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(broker.start)
        await asyncio.sleep(2)
    yield


async def _leader(stage: Stage, random: Random) -> Broker:
    """The broker that leads a partition of an input topic; raises FaultError where none does."""
    topic = random.choice(stage.topics.user_inputs)
    async with stage.admin() as admin:
        (described,) = await admin.describe_topics([topic])
    leaders = {partition["leader"] for partition in described["partitions"]} - {-1}
    if not leaders:
        message = f"no partition of {topic} has a leader"
        raise FaultError(message)
    number: int = random.choice(sorted(leaders))
    return stage.servers.brokers[number - 1]
