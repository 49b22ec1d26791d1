"""What a replay or back-fill stands on: the installation's servers, what is in force, and the runs beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError

from schemas.keys import Keys
from schemas.topics import Topics
from streams.admin import administering, create_topics
from streams.opened import Tables
from streams.replay.ranges import Place, Range, ReplayError
from streams.replay.register import Run, Target, known
from streams.service import namespaces
from streams.service.kafka import client_options
from streams.service.trouble import TROUBLE
from streams.settings import FoldSettings
from streams.tables.erased import copy_erased
from streams.tables.look import partitions_of
from streams.topic_plan import PlannedTopic, TopicLayout, plan


class AwayError(ReplayError):
    """A server does not answer."""

    exit_code = 1

    def __init__(self, what: str, error: BaseException, variable: str) -> None:
        super().__init__(f"{what} does not answer ({error!r}): set {variable} to where it is.")


class Ground:
    """An installation as it is: `runs` are those registered, `force` the namespaces in force."""

    def __init__(self, settings: FoldSettings, tables: Tables, force: namespaces.InForce, runs: dict[str, Any]) -> None:
        self.settings, self.tables, self.force, self.runs = settings, tables, force, runs
        self.installation = settings.connections.namespace
        self.kafka = client_options(settings.connections)

    def topics(self, run: str) -> Topics:
        """The topics of a namespace."""
        return self.settings.within(run).connections.topics

    async def target(self, run: str) -> Target:
        """What is known of a namespace that is to be filled."""
        holds = await partitions_of(self.tables.client, Keys(run).user_tag(0)) is not None
        return Target(run, self.force, known(self.runs, run), holds)

    async def keep_erased_away(self, run: str, partitions: int) -> None:
        """Let a run of so many partitions of users know who was erased. After it is registered: see `copy_erased`."""
        await copy_erased(self.tables.client, Keys(self.force.live), Keys(run), partitions)

    async def live_partitions(self) -> tuple[int, int]:
        """Partitions of users and items of the live tables. Raises ReplayError where there are none."""
        keys = Keys(self.force.live)
        users = await partitions_of(self.tables.client, keys.user_tag(0))
        items = await partitions_of(self.tables.client, keys.item_tag(0))
        if users is None or items is None:
            message = (
                f"Namespace {keys.namespace} is not initialised in this Redis: check KAIROS_REDIS and "
                "KAIROS_NAMESPACE, or run `kairos topics create`."
            )
            raise ReplayError(message)
        return users, items

    async def live_bases(self, partitions: int) -> dict[Place, int]:
        """The offset that each input of the live rows of users began at, by topic and partition."""
        keys, bases = Keys(self.force.live), dict[Place, int]()
        for partition in range(partitions):
            meta = await self.tables.users.store.meta(keys.user_tag(partition))
            bases |= {(n[2:].decode(), partition): int(v) for n, v in meta.items() if n.startswith(b"b:")}
        return bases

    async def settled(self, run: str, ranges: Sequence[Range]) -> int:
        """How many records of ranges of users or items a run has behind it."""
        keys, topics, total = Keys(run), self.topics(run), 0
        tags = {(r.topic in topics.item_inputs, r.partition) for r in ranges}
        metas: dict[tuple[bool, int], Mapping[bytes, bytes]] = {
            (items, p): await self.tables.users.store.meta(keys.item_tag(p) if items else keys.user_tag(p))
            for items, p in tags
        }
        for r in ranges:
            fence = metas[r.topic in topics.item_inputs, r.partition].get(f"o:{r.topic}".encode())
            total += min(max(int(fence) + 1 - r.first, 0), r.records) if fence is not None else 0
        return total

    async def write_down(self, name: str, run: Run) -> None:
        """Register a run, or what is known of it now."""
        self.runs[name] = run.plain()
        await namespaces.amend(self.tables.client, self.installation, name, self.runs[name])

    async def create_topics(self, run: str, partitions: tuple[int, int], *, shadow: bool) -> None:
        """Create the deltas topic of a run, laid out as the live one, and a shadow's two, where they are missing."""
        topics, (users, items) = self.topics(run), partitions
        async with administering(self.kafka) as admin:
            described = await admin.describe_topics([topics.items])
            replication = len(described[0]["partitions"][0]["replicas"]) if described[0]["partitions"] else 1
            planned = {t.name: t for t in plan(topics, TopicLayout(users, items, replication))}
            wanted = [planned[topics.deltas]]
            if shadow:
                out = topics.shadow_outlets
                for live, name in ((topics.recommendations, out.recommendations), (topics.decisions, out.decisions)):
                    wanted.append(PlannedTopic(name, users, planned[live].config))
            await create_topics(admin, wanted, replication)


@asynccontextmanager
async def ground(settings: FoldSettings) -> AsyncIterator[Ground]:
    """Connect; raises ReplayError, with exit status 1, when Kafka or Redis does not answer."""
    tables = Tables(settings)
    try:
        installation = settings.connections.namespace
        force = await namespaces.in_force(tables.client, installation)
        yield Ground(settings, tables, force, await namespaces.runs(tables.client, installation))
    except TROUBLE as error:
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
            raise
        where = "Redis"
        raise AwayError(where, error, "KAIROS_REDIS") from error
    except KafkaError as error:
        where = f"Kafka at {settings.connections.kafka}"
        raise AwayError(where, error, "KAIROS_KAFKA") from error
    finally:
        await tables.close()
