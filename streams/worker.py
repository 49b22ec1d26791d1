"""The life of a worker process: find the namespace in force, read and apply there until told to stop, say why it left.

When another namespace comes into force (`kairos promote`) the next life begins there beside the one that works; that
one stops in order when the next has come to the live tail.

Exit codes: 0 told to stop, 1 a fault of the program, 70 stuck (liveness), 75 a dependency stayed away too long
(start again), 78 refused: an operator must act first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from schemas.keys import Keys
from streams.chunks.chunking import SeekOverdue, TopicGone
from streams.chunks.liveness import EXIT_STUCK
from streams.features.blobs import UnreadableError
from streams.features.calendar import Calendar
from streams.features.rows import mismatch
from streams.life import Life
from streams.metrics import OfNow
from streams.needs import reach_kafka, reach_redis
from streams.service import http, roll
from streams.service.entry import missing_right
from streams.service.namespaces import schema_of
from streams.service.outbox import OutboxError
from streams.service.redis import connect
from streams.service.settings import Connections
from streams.service.trouble import TROUBLE
from streams.service.waiting import Waiting
from streams.settings import StreamSettings
from streams.tables.errors import Broken, OtherDeclaration, Refused
from streams.tables.weather import Weather
from streams.wiring import Wiring, declared

EXIT_FAULT, EXIT_AGAIN, EXIT_REFUSED = 1, 75, 78

logger = logging.getLogger(__name__)


class Worker:
    """One process's worker; `run` is its life, `missing` what keeps it from being ready.

    It folds into the namespace that is in force, or, where one is given, `into` that one for ever.
    """

    def __init__(self, settings: StreamSettings, wanted: tuple[str, ...], *, into: str = "") -> None:
        self.settings, self.wanted, self.into = settings, wanted, into
        self.waiting = Waiting()
        self.code = EXIT_STUCK  # until a better reason to leave is known
        self.life: Life | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self.registry = CollectorRegistry()
        self.registry.register(OfNow(lambda: self.life.wiring.registry if self.life is not None else None))
        # Loading the tables behind the calendar takes half a second: before anybody counts on this worker.
        Calendar(settings.tools.features.zone)
        schema = declared(settings.tools).schema
        self._client = connect(settings.connections)
        member = roll.myself("stream", schema, pinned=bool(into))
        self.roll = roll.Roll(self._client, settings.connections.namespace, member)

    async def run(self, stop: asyncio.Event) -> int:
        """Live until `stop` is set or something ends this process; the exit code."""
        address = self.settings.shell.http
        probes: dict[str, http.Check] = {"live": dict, "ready": self.missing}
        async with await http.serve(address, registry=self.registry, about=self.about, **probes) as server:
            logger.info("Probes and metrics on http://%s/ready", server.address)
            stopping = asyncio.create_task(stop.wait())
            try:
                life = await self._settled(self._prepared(self.into or self.roll.force.live), stopping)
                while life is not None:
                    life = await self._live(life, stopping)
            finally:
                stopping.cancel()
                await asyncio.gather(*self._closing)
                await self.roll.leave()
                await self._client.aclose()
        return self.code

    def missing(self) -> Mapping[str, str]:
        """What keeps this worker from being ready, each with a sentence; empty when it reads and applies."""
        if self.life is not None:
            return self.life.missing()
        return dict(self.waiting.missing) or {"worker": "It is starting."}

    def about(self) -> Mapping[str, object]:
        """Where this worker stands, and what a hole in a log has stopped.

        That does not make it unready: who starts it again or waits for it helps nobody, an operator must act.
        """
        return {"namespace": self.roll.member.namespace, "stopped": self.life.stopped() if self.life else {}}

    def _prepared(self, namespace: str) -> Life:
        installation = self.settings.connections.namespace
        wiring = Wiring(self.settings.within(namespace), self.wanted, installation=installation)
        return Life(wiring, Waiting(), lambda: self.code)

    async def _settled(self, life: Life, stopping: asyncio.Task[bool]) -> Life | None:
        """A life that has begun in the namespace in force, for which `life` should be made; None at the end."""
        settling = asyncio.create_task(self._settle())
        await asyncio.wait({settling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not settling.done() or settling.exception():
            self.code = _code(settling, self.settings.connections)
            settling.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await settling
            await life.close()
            return None
        if (namespace := settling.result()) != life.namespace:
            await life.close()
            life = self._prepared(namespace)
        life.begin()
        return life

    async def _live(self, life: Life, stopping: asyncio.Task[bool]) -> Life | None:
        """Live until another namespace is in force; the life there, which has begun already, None at the end."""
        living, following, ended = life.living or life.begin(), life, None
        self.life = life
        while following is life and ended is None:
            ended = await _before(self._moved(life.namespace), living, stopping)
            if ended is None:
                following, ended = await self._beside(life, living, stopping)
        if ended is not None:
            self.code = _code(ended, self.settings.connections)
            if self.code:
                _hush()
        async with self._on_the_roll() if ended is None else contextlib.nullcontext():
            await life.stop()
        closing = asyncio.create_task(life.close())
        if ended is not None:
            await closing
            self.life = None
            return None
        self._closing.add(closing)  # the next life need not wait for it
        closing.add_done_callback(self._closing.discard)
        return await self._taken_over(following, stopping)

    async def _taken_over(self, following: Life, stopping: asyncio.Task[bool]) -> Life | None:
        if following.living is None:
            self.life = None
            return await self._settled(following, stopping)
        self.life = following
        self.roll.works_in(following.namespace)
        with contextlib.suppress(*TROUBLE):
            await self.roll.call()
        return following

    async def _beside(
        self, life: Life, living: asyncio.Task[None], stopping: asyncio.Task[bool]
    ) -> tuple[Life, asyncio.Task[Any] | None]:
        """The life in the namespace in force, near the live tail, or what ended the worker; this one works meanwhile.

        Two namespaces fold the log for a while, each behind its own fences: as with a worker that follows a run.
        """
        while (namespace := self.roll.force.live) != life.namespace:
            logger.info("Namespace %s is in force now: leaving %s for it.", namespace, life.namespace)
            following = self._prepared(namespace)
            if not await self._reads(namespace):
                return following, None
            ended = await _before(self._arrived(following, life), living, following.begin(), stopping)
            if ended is None and self.roll.force.live == namespace:
                return following, None
            await following.stop()
            await following.close()
            if ended is not None:
                return life, ended
        return life, None

    async def _arrived(self, following: Life, life: Life) -> None:
        """Keep our place on the roll until a life has come near the live tail, or another namespace is in force."""
        looking = [asyncio.create_task(following.near(life)), asyncio.create_task(self._moved(following.namespace))]
        try:
            await asyncio.wait(looking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in looking:
                task.cancel()

    @asynccontextmanager
    async def _on_the_roll(self) -> AsyncIterator[None]:
        """Keep our place on the roll as it is."""
        calling = asyncio.create_task(self.roll.until(lambda _force: False))
        try:
            yield
        finally:
            calling.cancel()

    async def _settle(self) -> str:
        """The namespace to fold into, once Kafka and Redis answer and it is one of our declaration."""
        connections, weather = self.settings.connections, Weather()
        await reach_kafka(connections, self.waiting)
        if self.into:
            namespace = self.into
        else:
            placing = roll.place(self.roll, weather.ride, self._say, serving=False)
            namespace = (await reach_redis(weather, self.waiting, placing)).live
        schema = await reach_redis(weather, self.waiting, self._schema_of(namespace, weather))
        if schema not in (None, self.roll.member.schema):
            text = f"Namespace {namespace} holds rows of {mismatch(schema or 0, self.roll.member.schema)}."
            raise OtherDeclaration(text)
        self.roll.works_in(namespace)
        return namespace

    async def _reads(self, namespace: str) -> bool:
        """Whether the rows of a namespace are of our declaration; who is not sure settles first."""
        try:
            return await schema_of(self._client, Keys(namespace)) in (None, self.roll.member.schema)
        except TROUBLE:
            return False

    async def _schema_of(self, namespace: str, weather: Weather) -> int | None:
        return await weather.ride("reading a row's schema", lambda: schema_of(self._client, Keys(namespace)))

    def _say(self, sentence: str) -> None:
        if sentence:
            self.waiting.on("namespace", sentence)
        else:
            self.waiting.over("namespace")

    async def _moved(self, namespace: str) -> None:
        """Keep our place on the roll until another namespace is in force."""
        await self.roll.until(lambda force: not self.into and force.live != namespace)


async def _before(awaited: Coroutine[Any, Any, object], *ends: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
    """Wait for something; which of the ends came before it, or itself where it failed, else None."""
    waiting = asyncio.create_task(awaited)
    await asyncio.wait({waiting, *ends}, return_when=asyncio.FIRST_COMPLETED)
    came = next((end for end in ends if end.done()), None)
    if not waiting.done():
        waiting.cancel()
    elif waiting.exception() and came is None:
        came = waiting
    return came


def _code(life: asyncio.Task[Any], connections: Connections) -> int:
    """Say why the worker ends, and with which code."""
    error = None if not life.done() or life.cancelled() else life.exception()
    if error is None:
        logger.info("Told to stop: leaving the group.")
        return 0
    if isinstance(error, Refused | Broken | TopicGone | OutboxError | UnreadableError):
        logger.critical("%s", error)
        return EXIT_REFUSED
    if isinstance(error, SeekOverdue | KafkaError | OSError):
        logger.critical("%s", missing_right(error, connections) or error)
        return EXIT_AGAIN
    logger.critical("The worker met a fault of its own and ends before it loses anything.", exc_info=error)
    return EXIT_FAULT


def _hush() -> None:
    """The reason is told: what Faust's services say while they stop over one another is of use in a debug log only."""
    if not logger.isEnabledFor(logging.DEBUG):
        for name in ("faust", "mode", "aiokafka", "streams.chunks"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


async def work(settings: StreamSettings, wanted: tuple[str, ...], *, into: str = "") -> int:
    """Run one worker in this process until SIGTERM or SIGINT; the exit code. A second signal leaves at once."""
    stop = asyncio.Event()

    def told() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGINT)
        stop.set()

    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, told)
    return await Worker(settings, wanted, into=into).run(stop)
