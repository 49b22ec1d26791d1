"""The demo's story, in order: servers, topics, worker, the past, training, model worker, live traffic, the check."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from deploy.demo import children, training
from deploy.demo.children import Service
from deploy.demo.gateway import Gateway, percentile
from deploy.demo.ledger import Balance, Ledger
from deploy.demo.live import Traffic, now_ms
from deploy.demo.producing import items_of, produce, producing
from deploy.demo.report import Report
from deploy.demo.screen import Screen
from deploy.demo.sources import Source
from deploy.demo.tables import Tables, counted_items, counted_users, until_applied
from deploy.stack.local import LocalStack
from schemas.topics import Topics
from streams.features.declaration import DEFAULT
from streams.logs.logs import LogEvent
from streams.service import redis, settings
from streams.service.kafka import client_options
from streams.service.settings import Connections


@dataclass(frozen=True)
class Plan:
    """How a demo runs. `apart`: put before topic names and into Redis keys, on servers that are not ours alone."""

    seconds: float
    folder: Path
    workers: int = 1
    user_partitions: int = 4
    item_partitions: int = 2
    train: bool = True
    apart: str = ""


class Demo:
    """One run; `env` are the KAIROS_* variables of all its processes, complete once the servers run."""

    def __init__(self, plan: Plan, source: Source, screen: Screen) -> None:
        self.plan, self.source, self.screen = plan, source, screen
        self.env: dict[str, str] = {}
        self.ledger, self.report = Ledger(DEFAULT), Report()
        self._services: list[Service] = []
        self._cleanup = AsyncExitStack()

    async def run(self) -> Report:
        """Tell the whole story; whatever happens, everything that was started is stopped."""
        began_s = time.monotonic()
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with self._cleanup:
            past = asyncio.create_task(asyncio.to_thread(self.source.past))
            self._cleanup.push_async_callback(cancelled, past)
            await self._servers()
            await self._topics()
            connections = settings.read(Connections, self.env)
            kafka, topics = client_options(connections), connections.topics
            client = redis.connect(connections)
            self._cleanup.push_async_callback(client.aclose)
            tables = await self._cleanup.enter_async_context(Tables.reading(kafka, client, topics, connections.keys))
            producer = await self._cleanup.enter_async_context(producing(connections))
            await self._stream_workers()
            await self._past(past, producer, topics, tables)
            if self.plan.train:
                await self._training(connections)
            gateway = Gateway(topics, self.ledger, self.source.push)
            await self._model_worker(gateway, kafka)
            await self._live(producer, topics, gateway)
            await self._check(tables)
        self.report.seconds = time.monotonic() - began_s
        return self.report

    async def _servers(self) -> None:
        with self.screen.step("Starting Apache Kafka and Valkey") as step:
            stack = LocalStack(self.plan.folder / "stack", say=step.says)
            starting = asyncio.create_task(asyncio.to_thread(stack.start))
            self._cleanup.push_async_callback(stopped, starting, stack)
            await asyncio.shield(starting)
            ours = stack.broker is not None and stack.valkey is not None
            step.says("Apache Kafka and Valkey run here" if ours else "Kafka and Redis are those the environment names")
        apart = {"KAIROS_TOPIC_PREFIX": f"{self.plan.apart}.", "KAIROS_NAMESPACE": self.plan.apart}
        models = {"KAIROS_MODEL_DIR": str(self.plan.folder / "models"), **dict([training.CALM])}
        self.env = {**stack.environment(), **self.source.settings, **(apart if self.plan.apart else {}), **models}

    async def _topics(self) -> None:
        users, items = self.plan.user_partitions, self.plan.item_partitions
        with self.screen.step("Creating the topics") as step:
            await self._command(
                "topics", ["topics", "create", "--partitions", str(users), "--item-partitions", str(items)]
            )
            step.says(f"Topics created: {users} partitions by user, {items} by item")

    async def _stream_workers(self) -> None:
        count = self.plan.workers
        name = "stream worker" if count == 1 else f"{count} stream workers"
        with self.screen.step(f"Starting the {name}") as step:
            workers = [self._service(f"worker-{number}", ["worker"]) for number in range(1, count + 1)]
            for worker in workers:
                await asyncio.to_thread(worker.wait_ready)
            step.says(f"The {name} {'waits' if count == 1 else 'wait'} for events")

    async def _past(
        self, gathering: asyncio.Task[Sequence[LogEvent]], producer: AIOKafkaProducer, topics: Topics, tables: Tables
    ) -> None:
        with self.screen.step("Gathering the past") as step:
            past = await gathering
            items = items_of(self.source.catalogue(), now_ms())
            step.says(f"The past has {len(past):,} events about {len(items):,} items")
        with self.screen.step("Kafka → worker → rows in Redis") as step:
            began_s = time.monotonic()
            sending = asyncio.create_task(self._send([*items, *past], producer, topics))
            self._cleanup.push_async_callback(cancelled, sending)

            def tell(done: int, total: int) -> None:
                self._must_run()
                step.progress(done, max(total, len(past)))

            await until_applied(tables, sending, tell)
            self.report.events_per_s = len(past) / (time.monotonic() - began_s)
            step.says(f"All of it went through Kafka into rows in Redis, {self.report.events_per_s:,.0f} events/s")
        # As after a rebuild: what people did last week fills their rows and earns nobody a push today.
        self.screen.note(
            f"nobody is pushed for the past: {await tables.forget_queue():,} rescores it asked for are dropped"
        )

    async def _send(self, events: Sequence[LogEvent], producer: AIOKafkaProducer, topics: Topics) -> None:
        async for sent in produce(producer, topics, events):
            for event in sent:
                if event.stream != "items":
                    self.ledger.acknowledged(event)

    async def _training(self, connections: Connections) -> None:
        with self.screen.step("Training the ranker") as step:
            models, zone = Path(self.env["KAIROS_MODEL_DIR"]), self.env.get("KAIROS_ZONE", "UTC")
            self.report.ranker = await training.train(connections, models, zone, step)
            step.says(self.report.ranker)

    async def _model_worker(self, gateway: Gateway, kafka: Mapping[str, Any]) -> None:
        with self.screen.step("Starting the model worker") as step:
            model = self._service("model", ["model"])
            watching = asyncio.create_task(gateway.run(kafka))
            self._cleanup.push_async_callback(cancelled, watching)
            await asyncio.to_thread(model.wait_ready, 120.0)
            step.says("The model worker waits for people who do something")

    async def _live(self, producer: AIOKafkaProducer, topics: Topics, gateway: Gateway) -> None:
        traffic = Traffic(self.source, producer, topics, self.ledger, gateway)
        await traffic.run(self.plan.seconds, self.screen)
        report = self.report
        report.live_events, report.opened = traffic.events, self.ledger.of_kind("opened")
        report.candidates, report.repeated = gateway.candidates, gateway.repeated
        report.users_rescored, report.silence = gateway.rescored, dict(gateway.silence.most_common())
        report.p50_ms, report.p99_ms = percentile(gateway.waits_ms, 0.5), percentile(gateway.waits_ms, 0.99)
        report.beyond_p99_ms = percentile(gateway.beyond_ms, 0.99)
        for place, waits_ms in gateway.places_ms.items():
            report.places_ms[place] = (percentile(waits_ms, 0.5) or 0.0, percentile(waits_ms, 0.99) or 0.0)

    async def _check(self, tables: Tables) -> None:
        with self.screen.step("Comparing every row with what Kafka acknowledged") as step:
            await until_applied(tables, None, lambda _done, _total: self._must_run())
            stored = await counted_users(tables, DEFAULT, {user for user, _ in self.ledger.users})
            users = self.report.users = Balance.between(self.ledger.users, stored)
            items = self.report.items = Balance.between(self.ledger.items, await counted_items(tables, DEFAULT))
            self.report.events = self.ledger.events
            step.says(f"Rows of {users.rows:,} users and {items.rows:,} items compared with what Kafka acknowledged")

    def _service(self, name: str, command: list[str]) -> Service:
        service = Service.start(name, command, folder=self.plan.folder, env=self.env)
        self._cleanup.push_async_callback(asyncio.to_thread, service.stop)
        self._services.append(service)
        return service

    def _must_run(self) -> None:
        for service in self._services:
            service.must_run()

    async def _command(self, name: str, command: list[str]) -> None:
        await children.complete(name, command, folder=self.plan.folder, env=self.env)


async def stopped(starting: asyncio.Task[LocalStack], stack: LocalStack) -> None:
    """Stop the servers; a start under way cannot be cut short, so its end is awaited."""
    with suppress(Exception):
        await starting
    await asyncio.to_thread(stack.stop)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; what it failed with is raised."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
