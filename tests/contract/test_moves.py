"""How a worker comes to a namespace and moves on: its lives in this process, over real Kafka and Valkey."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from schemas.keys import Keys
from streams.breaker import TooManyDeadLetters
from streams.features.declaration import DEFAULT
from streams.life import NEAR, Life
from streams.moves import Moves, Told
from streams.placement import Placement
from streams.service import namespaces, roll, settings
from streams.service.waiting import Waiting
from streams.settings import StreamSettings
from streams.wiring import SIDES, Wiring
from tests.installation import Sent, events
from tests.promoting import BROKEN, Promoted

OTHER_SCHEMA = DEFAULT.schema ^ 1

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """A connection that aiokafka was cancelled in the middle of stays open: found here, not in a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Walk:
    """A worker's moves over an installation; `lives` are those that it made, in their order."""

    def __init__(self, shop: Promoted) -> None:
        self.shop, self.lives = shop, list[Life]()
        self.settings = settings.read(StreamSettings, shop.env)
        self.waiting, self._told = Waiting(), asyncio.Event()
        placement = Placement(self.settings.connections, DEFAULT.schema, self.waiting)
        self.moves = Moves(placement, self._life, asyncio.create_task(self._told.wait()))
        self.running = asyncio.create_task(self.moves.run())

    def _life(self, namespace: str) -> Life:
        wiring = Wiring(self.settings.within(namespace), SIDES, installation=self.shop.name)
        self.lives.append(Life(wiring, Waiting(), lambda: 1))
        return self.lives[-1]

    @property
    def names(self) -> list[str]:
        return [life.namespace for life in self.lives]

    def works_in(self, namespace: str) -> bool:
        """Whether the life that speaks for the worker reads and applies there."""
        life = self.moves.life
        return life is not None and life.namespace == namespace and not life.missing()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something, which must come before the moves end."""
        async with asyncio.timeout(60):
            while not condition():
                if self.running.done():
                    await self.running
                await asyncio.sleep(0.01)

    async def force(self, live: str, step: str = "") -> None:
        """Bring a namespace into force for stream workers; with a step they look ten times a second."""
        async with self.shop.redis() as redis:
            force = await namespaces.in_force(redis, self.shop.name)
            assert await namespaces.move(redis, self.shop.name, force, force._replace(live=live, step=step))

    async def on_the_roll(self) -> list[str]:
        """Where the workers of the installation say that they are."""
        async with self.shop.redis() as redis:
            return [member.namespace for member in await roll.present(redis, self.shop.name)]

    async def end(self) -> None:
        self._told.set()
        await asyncio.wait({self.running})
        await self.moves.end()
        await self.moves.placement.leave()


@pytest.fixture
async def shop(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Promoted]:
    made = Promoted(kafka, redis_url, topic_prefix, namespace, tmp_path)
    made.env["KAIROS_BREAKER_RECORDS"] = "20"
    assert (await made.set_up(partitions=1, item_partitions=1))[0] == 0
    await made.build_run()
    yield made
    made.close()


@pytest.fixture
async def walk(shop: Promoted) -> AsyncIterator[Walk]:
    """A worker that works in the installation's own namespace."""
    made = Walk(shop)
    try:
        await made.until(lambda: made.works_in(shop.name))
        yield made
    finally:
        await made.end()


async def applied(shop: Promoted, namespace: str) -> int:
    """Records of the inputs of users that a namespace has applied."""
    shop.look_at(namespace)
    return sum(at + 1 for (topic, _), at in (await shop.fences()).items() if topic in shop.topics.user_inputs)


async def test_the_old_life_works_on_until_the_new_one_is_at_the_live_tail(shop: Promoted, walk: Walk) -> None:
    await shop.send(events(shop.topics, 3_000))
    await shop.applied()
    old = walk.lives[0]
    await walk.force(shop.run_name, "moving")
    await walk.until(lambda: len(walk.lives) == 2)
    assert walk.works_in(shop.name)
    assert await walk.on_the_roll() == [shop.name]
    await walk.until(lambda: walk.works_in(shop.run_name))
    assert await applied(shop, shop.run_name) >= await applied(shop, shop.name) - NEAR
    assert old.living is not None
    assert old.living.done()
    assert await walk.on_the_roll() == [shop.run_name]
    left = await applied(shop, shop.name)
    shop.look_at(shop.run_name)
    await shop.send(events(shop.topics, 200, seed=2))
    await shop.applied()
    assert await shop.wrong_users() == {}
    assert await applied(shop, shop.name) == left
    assert walk.names == [shop.name, shop.run_name]


async def test_when_the_old_namespace_comes_back_in_time_its_life_goes_on(shop: Promoted, walk: Walk) -> None:
    old = walk.lives[0]
    await walk.force(shop.run_name, "moving")
    await walk.until(lambda: len(walk.lives) == 2)
    await walk.force(shop.name, "moving")
    beside = walk.lives[1]
    await walk.until(lambda: beside.living is not None and beside.living.done())
    await shop.send(events(shop.topics, 200))
    await shop.applied()
    assert walk.moves.life is old
    assert await walk.on_the_roll() == [shop.name]
    assert walk.names == [shop.name, shop.run_name]


async def test_nothing_goes_beside_in_rows_that_cannot_be_read(shop: Promoted, walk: Walk) -> None:
    """The old life stops, and the worker waits for a run whose rows it reads."""
    async with shop.redis() as redis:
        row = OTHER_SCHEMA.to_bytes(4, "little")
        await redis.hset(Keys.item_rows(Keys(shop.run_name).item_tag(0)), "i1", row)
        assert await namespaces.register(redis, shop.name, "third", {"schema": DEFAULT.schema})
    await walk.force(shop.run_name)
    await walk.until(lambda: "namespace" in walk.waiting.missing)
    assert "`kairos promote third --execute`" in walk.waiting.missing["namespace"]
    assert walk.moves.life is None
    assert await walk.on_the_roll() == [""]
    living = [life.living for life in walk.lives if life.living is not None]
    assert [one.done() for one in living] == [True]
    await walk.force(shop.name)
    await walk.until(lambda: walk.works_in(shop.name))
    assert walk.names.count(shop.name) > 1
    assert await walk.on_the_roll() == [shop.name]


async def test_what_ends_a_life_ends_the_worker(shop: Promoted, walk: Walk) -> None:
    await shop.send([Sent(shop.topics.clicks, b"u%d" % i, BROKEN) for i in range(100)])
    with pytest.raises(TooManyDeadLetters):
        await walk.until(lambda: False)


async def test_a_worker_that_is_told_to_stop_in_the_middle_of_a_move_leaves_both(shop: Promoted, walk: Walk) -> None:
    await walk.force(shop.run_name, "moving")
    await walk.until(lambda: len(walk.lives) == 2)
    await walk.end()
    assert isinstance(walk.running.exception(), Told)
    assert walk.moves.life is None
    assert all(life.living is not None and life.living.done() for life in walk.lives)
    assert await walk.on_the_roll() == []
