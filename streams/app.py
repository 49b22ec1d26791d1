"""One side of the worker: a Faust app, in a group of its own, over the topics of one table."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import faust
import mode
from faust.types import TP
from faust.types.auth import CredentialsT

from streams.agents import ChunkAgent, Processor
from streams.burial import Burial
from streams.chunks.audit import Audit
from streams.chunks.chunk import LogFacts
from streams.chunks.chunking import Chunking, Start
from streams.chunks.consumer import ChunkConsumer
from streams.chunks.holes import Holes
from streams.chunks.liveness import Limits, Watched
from streams.chunks.transport import SCHEME, ChunkedApp
from streams.service.kafka import METADATA_MAX_AGE_MS, ssl_context
from streams.service.settings import Connections
from streams.settings import StreamSettings
from streams.tables.errors import Hole, NotInitialised, Repartitioned, Truncated
from streams.tables.part import TableStats
from streams.tables.weather import Weather

logger = logging.getLogger(__name__)

WEEK_S = 7 * 86_400.0


class Table(Protocol):
    """What a side needs of its fenced table."""

    stats: TableStats
    weather: Weather

    def fence(self, topic: str, partition: int) -> int: ...
    def release(self, partition: int) -> None: ...
    def partitions(self, partition: int) -> int: ...
    async def reload_fence(self, topic: str, partition: int) -> int: ...
    async def start_position(self, facts: LogFacts) -> int: ...
    async def keep_truncated(self, hole: Truncated) -> None: ...
    async def check_server(self) -> None: ...


class Lag(NamedTuple):
    """One partition: offsets and ages as the metrics show them."""

    fence: int
    offsets: int
    seconds: float
    oldest_s: float
    transaction_offsets: int


class Side:
    """Users or items: the app, what applies its chunks, and who watches it."""

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        table: Table,
        processor: Processor,
        settings: StreamSettings,
        *,
        fetch_wait_ms: int,
        fetch_min_bytes: int,
    ) -> None:
        self.name, self.topics, self.table = name, tuple(topics), table
        chunking = Chunking(
            self.start_positions,
            records=settings.chunk,
            read_committed=settings.read_committed,
            fetch_wait_ms=fetch_wait_ms,
            fetch_min_bytes=fetch_min_bytes,
            seek_deadline_s=settings.seek_deadline_s,
        )
        self.app = ChunkedApp(settings.group_of(name), chunking=chunking, **faust_options(settings, name))
        self.agent = ChunkAgent(self.app, topics, processor, name)
        self.audit = Audit(self.app, table, self.agent.pass_over)
        self.holes = Holes(self.app)
        self.burial: Burial | None = None
        self._held: set[int] = set()

    @property
    def consumer(self) -> ChunkConsumer | None:
        """The running consumer, None before the start."""
        consumer = self.app._consumer
        return consumer if isinstance(consumer, ChunkConsumer) and consumer._thread._consumer is not None else None

    @property
    def stopped(self) -> dict[str, str]:
        """Partitions that stand still for a hole in their log, by topic:partition, each with the reason and remedy."""
        consumer = self.consumer
        return {f"{tp.topic}:{tp.partition}": why for tp, why in sorted(consumer.stopped.items())} if consumer else {}

    async def start_positions(self, facts: Sequence[LogFacts]) -> Mapping[TP, Start]:
        """Fence + 1 of every partition asked for, and which of them are stopped by a hole in their log.

        Raises a Refused where reading any of them on would be wrong.
        """
        await self.table.check_server()
        try:
            starts = await asyncio.gather(*[self._start(fact) for fact in facts])
        except NotInitialised:
            await self._refuse_growth(facts)
            raise
        assigned = {fact.partition for fact in facts}
        if (consumer := self.consumer) is not None:
            assigned |= {tp.partition for tp in consumer.assignment()}
        for partition in self._held - assigned:
            self.table.release(partition)
        self._held = assigned
        logger.info("%s: reading %d partitions of %d topics", self.name, len(facts), len({f.topic for f in facts}))
        return {TP(fact.topic, fact.partition): start for fact, start in zip(facts, starts, strict=True)}

    async def _start(self, fact: LogFacts) -> Start:
        try:
            return Start(await self.table.start_position(fact))
        except Hole as hole:
            if isinstance(hole, Truncated):
                await self.table.keep_truncated(hole)
            return Start(hole.needed, str(hole))

    async def _refuse_growth(self, facts: Sequence[LogFacts]) -> None:
        """A partition without meta, of a topic whose first partition has one, came by growth; raises Repartitioned."""
        for fact in facts:
            await self.table.reload_fence(fact.topic, 0)
            if (stored := self.table.partitions(0)) != fact.partitions:
                raise Repartitioned(fact.topic, fact.partition, stored, fact.partitions)

    def missing(self) -> dict[str, str]:
        """What keeps this side from being ready, each with a sentence; empty when nothing does."""
        consumer = self.consumer
        if consumer is None:
            return {self.name: "The consumer is not started yet."}
        missing = {}
        if self.table.weather.trouble:
            missing["redis"] = self.table.weather.trouble
        if self.burial is not None and self.burial.waits:
            missing["dead letters"] = self.burial.waits
        if away := consumer.broker_away():
            missing["kafka"] = away
        elif self.app.rebalancing or not consumer.flow_active or not consumer.joined():
            missing[self.name] = "The group is settling who reads which partition."
        return missing

    def away(self) -> str:
        """Which dependency is away, or is waited for; else empty. Meanwhile standing still is not being stuck."""
        consumer = self.consumer
        away = self.table.weather.trouble or (consumer.broker_away() if consumer else "")
        return away or (self.burial.waits if self.burial is not None else "")

    def lag(self, tp: TP) -> Lag | None:
        """Where one assigned partition stands; None before its first seek."""
        consumer = self.consumer
        if consumer is None or consumer.drained_to(tp) is None:
            return None
        fence, (position, end, highwater) = self.table.fence(tp.topic, tp.partition), consumer.log_state(tp)
        # Commit markers leave a tail that no fence reaches: all read and nothing in flight is no lag.
        behind = 0 if position >= end and not consumer.in_flight(tp) else max(0, end - 1 - fence)
        applied_ms = self.agent.applied_ms.get(tp, 0)
        age_s = max(0.0, time.time() - applied_ms / 1000) if behind and applied_ms else 0.0
        return Lag(fence, behind, age_s, consumer.oldest_in_flight_s(tp), max(0, highwater - end))

    def behind(self) -> int:
        """Records that are in the logs of the assigned partitions and not applied, as far as is known."""
        assigned = self.consumer.assignment() if self.consumer is not None else ()
        return sum(lag.offsets for tp in assigned if (lag := self.lag(tp)) is not None)

    def watched(self, settings: StreamSettings) -> Watched:
        """This side as the liveness probe looks at it."""
        limits = Limits(progress_s=settings.liveness_s, stop_s=settings.stop_s)
        return Watched(self.app, self.topics, self.table.fence, self.away, limits, asyncio.get_running_loop())


def faust_options(settings: StreamSettings, name: str) -> dict[str, Any]:
    """Options of the Faust app; each that is not its default was needed by a fault run."""
    connections = settings.connections
    hosts = [part.strip() for part in connections.kafka.split(",")]
    request_timeout_s = max(40.0, 2 * settings.seek_deadline_s, settings.session_timeout_s)
    return {
        "broker": [f"{SCHEME}://{host}" for host in hosts],
        "broker_credentials": credentials(connections),
        "datadir": str(Path(tempfile.gettempdir()) / f"kairos-{settings.group_of(name)}"),
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "agent_supervisor": mode.CrashingSupervisor,
        "table_standby_replicas": 1,  # keeps Faust's assignor, and with it topics of equal counts together
        "stream_buffer_maxsize": settings.buffer,
        "stream_wait_empty": False,  # the fence settles what is in flight; waiting would run the collector in a loop
        "broker_commit_interval": 1.0,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": min(3.0, settings.session_timeout_s / 6),
        "broker_rebalance_timeout": max(10.0, settings.session_timeout_s),
        "broker_request_timeout": request_timeout_s,
        "broker_max_poll_interval": WEEK_S,  # leaving for idleness ends in a deadlock; liveness judges instead
        "consumer_metadata_max_age_ms": METADATA_MAX_AGE_MS,
        "consumer_max_fetch_size": settings.fetch_max_bytes,
        "consumer_group_instance_id": f"{settings.instance}-{name}" if settings.instance else None,
    }


def credentials(connections: Connections) -> CredentialsT | None:
    """How Faust logs in to the brokers; None for a plain connection."""
    context = ssl_context(connections)
    if connections.kafka_security.startswith("SASL"):
        return faust.SASLCredentials(
            username=connections.kafka_username,
            password=connections.kafka_password,
            ssl_context=context,
            mechanism=connections.kafka_mechanism,
        )
    return faust.SSLCredentials(context) if context else None
