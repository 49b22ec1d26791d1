"""The stage of one run: servers, topics, supervised workers and model workers, in a folder of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from schemas.keys import Keys
from schemas.topics import Topics
from streams.admin import create_topics
from streams.service.redis import connect
from streams.service.settings import Connections, read
from streams.settings import Tools
from streams.setup import SetUp
from streams.topic_plan import TopicLayout, plan
from tests.faults.fault import FaultError
from tests.faults.plan import Plan
from tests.faults.producer import Producer
from tests.faults.rights import grant
from tests.faults.servers import Servers
from tests.faults.supervised import Supervised
from tests.faults.traffic import Traffic
from tests.faults.truth import Truth

PARTITIONS, ITEM_PARTITIONS = 4, 2
SESSION_S, LEASE_S = 6, 5
PREFIX = "faults."
EVERYBODY = {
    "KAIROS_MIN_SCORE": "0",
    "KAIROS_MIN_GRADE": "not_recommended",
    "KAIROS_DAILY_CAP": "1000000",
    "KAIROS_MINIMUM_GAP_S": "0",
    "KAIROS_QUIET_HOURS": "00:00-00:00",
    "KAIROS_PUSHED_DAYS": "7",
    "KAIROS_DEVICE": "cpu",
    "KAIROS_LEASE_S": str(LEASE_S),
}
"""Every affected user gets a candidate, as long as there is an item that it was not pushed yet."""


class Stage:
    """What faults act on. `archive` holds records that a fault removed from the log after they had counted."""

    def __init__(self, planned: Plan, needs: frozenset[str], folder: Path) -> None:
        self.plan, self.folder = planned, folder
        self.servers = Servers(folder, planned.layout, needs)
        self.namespace = "main"
        self.truth = Truth()
        self.traffic = Traffic(Random(planned.seed + 1), planned.load, self.topics)
        self.producer = Producer(self.servers.kafka, self.traffic, self.truth, Random(planned.seed + 2))
        self.workers = [self._supervised("worker", number) for number in range(planned.workers)]
        self.models = [self._supervised("model", number) for number in range(planned.models)]
        self.archive: dict[tuple[str, int, int], Any] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def topics(self) -> Topics:
        return Topics(PREFIX, self.namespace)

    @property
    def keys(self) -> Keys:
        return Keys(self.namespace)

    @property
    def processes(self) -> list[Supervised]:
        return [*self.workers, *self.models]

    @property
    def env(self) -> dict[str, str]:
        """Settings of every process where there are no doors."""
        return {
            **EVERYBODY,
            "KAIROS_KAFKA": self.servers.kafka,
            "KAIROS_REDIS": self.servers.redis,
            "KAIROS_TOPIC_PREFIX": PREFIX,
            "KAIROS_NAMESPACE": self.namespace,
            "KAIROS_GROUP": "kairos-faults",
            "KAIROS_HTTP": "127.0.0.1:0",
            "KAIROS_SESSION_TIMEOUT_S": str(SESSION_S),
            "KAIROS_CHUNK": "100",
        }

    def env_of(self, command: str) -> Mapping[str, str]:
        """Settings of the processes of one service: where there are doors, it comes in by them."""
        servers = self.servers
        if servers.doors is None:
            return self.env
        return {**self.env, **servers.doors.env(command, servers.secure_kafka, servers.redis)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Servers and processes up; whatever happens, all are gone afterwards."""
        try:
            await asyncio.to_thread(self.servers.start)
            await self.set_up()
            if self.servers.doors is not None:
                async with self.admin() as admin:
                    await grant(admin, PREFIX)
            await self.producer.send_all(self.traffic.catalogue(time.time_ns() // 1_000_000))
            for process in self.processes:
                self._spawn(process.supervise())
            await self._ready()
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for process in self.processes:
                await process.end()
            await asyncio.to_thread(self.servers.stop)

    async def set_up(self) -> None:
        """`kairos topics create`. Raises FaultError with what it said."""
        layout = TopicLayout(users=PARTITIONS, items=ITEM_PARTITIONS, replication=self.servers.copies)
        said = self.folder / "topics.txt"
        for _ in range(5):
            with said.open("w") as file:
                console = Console(file=file, width=500, highlight=False)
                code = await SetUp(read(Tools, self.direct_env()), layout, console).create()
            if code == 0:
                return
            await asyncio.sleep(1)
        message = f"the topics could not be created: {said.read_text()}"
        raise FaultError(message)

    async def set_up_topics_only(self) -> None:
        """Create what is missing and leave the tables alone, as an operator who did not think of them."""
        layout = TopicLayout(users=PARTITIONS, items=ITEM_PARTITIONS, replication=self.servers.copies)
        async with self.admin() as admin:
            await create_topics(admin, plan(self.topics, layout), self.servers.copies)

    async def rebuild(self) -> None:
        """What an operator does after a refusal: tables in a namespace of their own, over what the topics hold."""
        self.namespace += "-next"
        await self.set_up()
        for process in self.processes:
            process.kill()

    def join(self, command: str) -> Supervised:
        """A further "worker" or "model" under supervision."""
        others = self.workers if command == "worker" else self.models
        guest = self._supervised(command, len(others))
        others.append(guest)
        self._spawn(guest.supervise())
        return guest

    async def pick(self, processes: list[Supervised], random: Random) -> Supervised:
        """One of those that run, as soon as one does. Raises FaultError when none comes up in time."""

        def running() -> list[Supervised]:
            return [process for process in processes if process.alive and process.wanted and not process.paused]

        async def any_runs() -> bool:
            return bool(running())

        await until(any_runs, 20, "the start of a process to act on")
        return random.choice(running())

    def redis(self) -> Any:
        """The product's own client, past any proxy."""
        return connect(read(Connections, self.direct_env()))

    def direct_env(self) -> Mapping[str, str]:
        return {**self.env, "KAIROS_REDIS": self.servers.direct_redis}

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """An admin client of the brokers."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.servers.kafka)
        await client.start()
        try:
            yield client
        finally:
            await client.close()

    def _supervised(self, command: str, number: int) -> Supervised:
        return Supervised(f"{command}{number}", command, lambda: self.env_of(command), self.folder)

    def _spawn(self, life: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(life))

    async def _ready(self, timeout_s: float = 60) -> None:
        """Wait until every process says that it serves."""
        deadline_s = time.monotonic() + timeout_s
        while not await asyncio.to_thread(lambda: all(process.ready() for process in self.processes)):
            if time.monotonic() > deadline_s:
                asked = [(process, *process.ask("/ready")) for process in self.processes]
                waited_for = [(process, said) for process, status, said in asked if status != 200]
                await asyncio.gather(*[process.tell_stacks() for process, _ in waited_for])
                late = ", ".join(f"{process.name} ({said})" for process, said in waited_for)
                message = f"not ready within {timeout_s:.0f} s: {late}; see {self.folder}"
                raise FaultError(message)
            await asyncio.sleep(0.2)


async def until(
    condition: Callable[[], Coroutine[Any, Any, bool]], timeout_s: float, what: str, *, every_s: float = 0.2
) -> None:
    """Wait for a condition; raises FaultError with `what` did not happen in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with suppress(OSError, TimeoutError):
            if await condition():
                return
        await asyncio.sleep(every_s)
    message = f"{what} did not happen within {timeout_s:.0f} s"
    raise FaultError(message)
