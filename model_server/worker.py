"""A model worker process: wait for Redis and Kafka, work until told to stop or done, leave and say why.

Exit codes: 0 told to stop, or nothing left in drain mode; 1 a fault of the program; 70 stuck (liveness); 75 a
dependency stayed away too long (start again); 78 refused: an operator must act first.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry
from redis.exceptions import RedisError

from model_server.following import look_for_bundle
from model_server.items import ItemStore
from model_server.liveness import Probe, Seen
from model_server.messages import Scribe
from model_server.metrics import ModelMetrics
from model_server.queue import LeaseQueue
from model_server.rescoring import Parts, Rescoring
from model_server.rows import Former
from model_server.scoring import RankerSource
from model_server.settings import ModelSettings
from schemas.keys import Keys, ShadowKeys
from schemas.topics import Outlets
from streams.features.blobs import UnreadableError
from streams.features.calendar import Calendar
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.service import http, roll
from streams.service.clock import Clock
from streams.service.entry import Doorkeeper
from streams.service.namespaces import InForce, beside, in_force
from streams.service.outbox import Outbox, OutboxError
from streams.service.redis import connect, eviction, eviction_policies
from streams.service.trouble import TROUBLE, clause, passes, remedy
from streams.service.waiting import Waiting

EXIT_FAULT, EXIT_AGAIN, EXIT_REFUSED = 1, 75, 78

log = logging.getLogger(__name__)


class NotInitialisedError(OSError):
    """The namespace has no partitions yet; somebody has to run `kairos topics create`."""


class RunError(Exception):
    """The namespace is a run, from which nothing may be sent."""


class EvictingError(Exception):
    """Redis may delete push logs and leases by itself."""


class Worker:
    """`rankers` makes the source of rankers from settings and declaration, in a thread.

    `outlets`: where its records go, those of a shadow or, by default, the live ones.
    """

    def __init__(
        self,
        settings: ModelSettings,
        rankers: Callable[[ModelSettings, Declaration], RankerSource],
        *,
        drain: bool = False,
        outlets: Outlets | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.settings, self.drain = settings, drain
        self.outlets = outlets or settings.connections.topics.outlets
        self.declaration = DEFAULT if settings.features is None else load(settings.features)
        self.registry = CollectorRegistry()
        self.metrics = ModelMetrics(self.registry, self.declaration.delays_ms)
        self.address = ""
        self._rankers, self._clock = rankers, clock or Clock()
        self._waiting = Waiting()
        self._redis: Any = connect(settings.connections)
        self._roll = roll.Roll(
            self._redis, settings.connections.namespace, roll.myself("model", self.declaration.schema)
        )
        self._told = self._at_work = False
        self._outbox: Outbox | None = None
        self._source: RankerSource | None = None
        self._rescoring: Rescoring | None = None
        self._doorkeeper = Doorkeeper(settings.connections, lambda: self._outbox is not None and self._outbox.trouble)

    async def run(self, stop: asyncio.Event) -> int:
        """Live until `stop` is set, the queue is empty in drain mode, or something ends this life; the exit code."""
        address = self.settings.shell.http
        probes, liveness = {"live": dict, "ready": self.missing, "about": self.about}, Probe(self.seen)
        liveness.start()
        async with await http.serve(address, registry=self.registry, **probes) as server:
            self.address = server.address
            log.info("Probes and metrics on http://%s/ready", server.address)
            working, stopping = asyncio.create_task(self._work()), asyncio.create_task(stop.wait())
            watching = asyncio.create_task(self._doorkeeper.watch())
            try:
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                return await self._leave(working)
            finally:
                stopping.cancel()
                watching.cancel()
                liveness.stop()
                await self._close(working)

    def missing(self) -> Mapping[str, str]:
        """What keeps this worker from being ready, each with a sentence; empty when it works."""
        missing = dict(self._waiting.missing)
        if self._outbox is not None and self._outbox.trouble:
            missing["Kafka"] = self._doorkeeper.why or self._outbox.trouble
        if not missing and self._rescoring is None:
            missing["worker"] = "It is starting."
        return missing

    def about(self) -> Mapping[str, str]:
        """Where this worker stands."""
        return {"namespace": self._roll.member.namespace}

    def seen(self, turns: int) -> Seen | None:
        """How the worker stands, None where none is at work or something is away; `turns` are those of the loop."""
        if self._rescoring is None or not self._at_work or self._told or self.missing():
            return None
        holding = self._rescoring.holding
        return Seen(turns, holding.looks, len(holding), holding.settled, self._rescoring.scoring_since_ms)

    async def _work(self) -> None:
        """Work in the namespace that serves, and go on in another one when that does."""
        parts = await self._arrive(await roll.place(self._roll, self._ask, self._say, serving=True))
        while not self._told:
            rescoring = self._rescoring = Rescoring(parts, drain=self.drain)
            self._at_work = True
            running, moving = asyncio.create_task(rescoring.run()), asyncio.create_task(self._next())
            try:
                await asyncio.wait({running, moving}, return_when=asyncio.FIRST_COMPLETED)
                rescoring.stop()
                await running
                self._at_work = False
                if not moving.done():
                    return
                parts = moving.result()
                log.info("Namespace %s serves now.", parts.keys.namespace)
            finally:
                running.cancel()
                moving.cancel()
                await asyncio.gather(running, moving, return_exceptions=True)

    async def _next(self) -> Parts:
        """Keep our place on the roll; what to work with next, once something else serves."""
        here = self._roll.force
        there = await self._roll.until(lambda force: (force.serving, force.logs) != (here.serving, here.logs))
        return await self._arrive(there)

    def _say(self, sentence: str) -> None:
        if sentence:
            self._waiting.on("namespace", sentence)
        else:
            self._waiting.over("namespace")

    async def _leave(self, working: "asyncio.Task[None]") -> int:
        """Let the batches under way end, within the time a stop may take."""
        self._told = True
        if not working.done() and self._rescoring is not None:
            log.info("Told to stop: finishing the batches under way.")
            self._rescoring.stop()
            await asyncio.wait({working}, timeout=self.settings.stop_s)
        late = self._rescoring is not None and not working.done()
        if late:
            log.error(
                "The batches under way did not end within %g s; their users are scored again.", self.settings.stop_s
            )
            return EXIT_AGAIN
        error = working.exception() if working.done() else None  # Not done: nothing had started.
        return 0 if error is None else _code(error)

    async def _close(self, working: "asyncio.Task[None]") -> None:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if self._outbox is not None:
            await self._outbox.stop()
        await self._roll.leave()
        await self._redis.aclose()

    async def _arrive(self, force: InForce) -> Parts:
        """Wait for all that is needed to work in the namespace that serves."""
        settings, shadow = self.settings, self.outlets.mode == "shadow"
        keys = ShadowKeys(force.serving) if shadow else Keys(force.serving)
        if isinstance(clock := self._clock, Clock):
            await self._ride("Redis (KAIROS_REDIS)", lambda: clock.compare(self._redis.time))
        partitions = await self._ride("Redis (partitions)", lambda: self._partitions(keys, keys.user_tag(0)))
        await self._ride("Redis (memory policy)", self._refuse_eviction)
        await self._ride("Redis (namespace)", self._refuse_run)
        item_partitions = await self._ride("Redis (partitions)", lambda: self._partitions(keys, keys.item_tag(0)))
        items = ItemStore(self._redis, keys, item_partitions, ItemLayout(self.declaration))
        await self._ride("Redis (items)", items.load)
        items.advance()
        self.metrics.items_read(len(items.arrays.ids), None)
        outbox, rankers = await self._reach(partitions)
        self._roll.works_in(keys.namespace)
        run_id = secrets.token_hex(8)
        return Parts(
            redis=self._redis,
            keys=keys,
            queue=LeaseQueue(self._redis, keys, partitions, round(settings.lease_s * 1000), Random(run_id)),
            items=items,
            rankers=rankers,
            outbox=outbox,
            scribe=Scribe(
                self.outlets, settings.connections.namespace, run_id, self.declaration.schema, settings.policy
            ),
            layout=Layout(self.declaration),
            calendar=Calendar(settings.zone),
            metrics=self.metrics,
            missing=self._waiting,
            settings=settings,
            clock=self._clock,
            former=await self._ride("Redis (former namespaces)", lambda: self._former(force.logs)),
        )

    async def _reach(self, partitions: int) -> tuple[Outbox, RankerSource]:
        """The producer, connected, and the rankers: made once, whatever serves."""
        if self._outbox is None:
            self._outbox = Outbox(self.settings.connections)
        outbox = self._outbox
        outbox.partitions = partitions
        await self._waiting.until("Kafka (KAIROS_KAFKA)", outbox.start, (KafkaError, OSError))
        if self._source is None:
            rankers = await asyncio.to_thread(self._rankers, self.settings, self.declaration)
            self.metrics.serving(rankers.current().version)
            await look_for_bundle(rankers, self.metrics)
            self._source = rankers
        return outbox, self._source

    async def _former(self, logs: Sequence[str]) -> list[Former]:
        """Where push logs were kept before; what was never initialised, or is gone, holds none."""
        counts = [(Keys(name), await self._redis.hget(Keys.meta(Keys(name).user_tag(0)), "n")) for name in logs]
        return [Former(keys, int(count)) for keys, count in counts if count is not None]

    async def _refuse_eviction(self) -> None:
        """Raises EvictingError: without the push log of a user there would be too many pushes."""
        if sentence := eviction(await eviction_policies(self._redis)):
            raise EvictingError(sentence)

    async def _refuse_run(self) -> None:
        """Raises RunError: no live candidate may come from a run, even where KAIROS_NAMESPACE names one."""
        namespace = self.settings.connections.namespace
        if self.outlets.mode != "live" or not (installation := await beside(self._redis, namespace)):
            return
        message = (
            f"{namespace} is a run beside {installation}, and no live candidate comes from a run: score it with "
            f"KAIROS_NAMESPACE={installation} and --shadow {namespace}, or promote it."
        )
        force = await in_force(self._redis, installation)
        if namespace in (force.live, force.serving):
            message = (
                f"{namespace} is in force for {installation}: set KAIROS_NAMESPACE={installation}, whose workers "
                "score it and follow when another namespace is promoted."
            )
        raise RunError(message)

    async def _ride(self, name: str, attempt: Callable[[], Any]) -> Any:
        return await self._waiting.until(name, attempt, TROUBLE, passes=passes)

    async def _ask(self, what: str, attempt: Callable[[], Any]) -> Any:
        return await self._ride(f"Redis ({what})", attempt)

    async def _partitions(self, keys: Keys, tag: bytes) -> int:
        """Partition count behind a tag. Raises NotInitialisedError."""
        count = await self._redis.hget(Keys.meta(tag), "n")
        if count is None:
            text = (
                f"namespace {keys.namespace} is not initialised in this Redis: run `kairos topics create`, "
                "or set KAIROS_REDIS and KAIROS_NAMESPACE to where the stream worker writes"
            )
            raise NotInitialisedError(text)
        return int(count)


def _code(error: BaseException) -> int:
    """Say why the worker ends, and with which code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OutboxError | UnreadableError | EvictingError | RunError):
        log.critical("%s", error)
        return EXIT_REFUSED
    if isinstance(error, RedisError):
        log.critical("Redis refuses and will go on to: %s. %s", clause(error), remedy(error))
        return EXIT_REFUSED
    if isinstance(error, KafkaError | OSError):
        log.critical("%s", error)
        return EXIT_AGAIN
    log.critical("The worker met a fault of its own and ends; what it held is scored again.", exc_info=error)
    return EXIT_FAULT
