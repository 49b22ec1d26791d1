"""An installation under test: topics, worker processes, seeded events, and what the tables must hold at the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console

from schemas.keys import Keys
from schemas.topics import Topics
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.service import settings
from streams.settings import Tools
from streams.setup import SetUp
from streams.testing import oracle
from streams.topic_plan import TopicLayout
from tests import worker_process
from tests.contract.backends import client_of
from tests.worker_process import WorkerProcess

ROOT = worker_process.ROOT
KINDS = {
    **{word: sorted(DEFAULT.wire_kinds(word)) for word in ("clicks", "browses", "orders")},
    "feedback": ["sent", "opened", "dismissed", "opted-out"],
}
SCENES: list[dict[str, Any] | None] = [
    {"device": "phone", "zone": "Europe/Paris", "locale": "fr-FR", "network": "wifi"},
    {"device": "desktop", "region": "BR-SP", "zone": "America/Sao_Paulo"},
    {"weather": "rain", "place": "transit", "lat": 35.68, "lon": 139.69},
    None,
]


class Sent(NamedTuple):
    """A record as it goes to Kafka; `event` is None when it must not count."""

    topic: str
    key: bytes | None
    value: bytes | None
    event: Mapping[str, Any] | None = None


class Installation:
    """Topics and namespace of one test; everything it starts is gone after `close`."""

    def __init__(self, kafka: str, redis_url: str, prefix: str, namespace: str, folder: Path) -> None:
        self.kafka, self.redis_url, self.folder = kafka, redis_url, folder
        self.topics, self.keys = Topics(prefix, namespace), Keys(namespace)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")},
            "KAIROS_KAFKA": kafka,
            "KAIROS_REDIS": redis_url,
            "KAIROS_TOPIC_PREFIX": prefix,
            "KAIROS_NAMESPACE": namespace,
            "KAIROS_GROUP": f"g-{namespace}",
            "KAIROS_HTTP": "127.0.0.1:0",
            "KAIROS_SESSION_TIMEOUT_S": "6",
            "KAIROS_CHUNK": "100",
        }
        self.partitions = self.item_partitions = 0
        self.events: list[Mapping[str, Any]] = []
        self._workers: list[WorkerProcess] = []

    async def set_up(self, do: str = "create", partitions: int = 4, item_partitions: int = 2) -> tuple[int, str]:
        """Run `kairos topics DO`; the exit code and what it printed."""
        self.partitions, self.item_partitions = partitions, item_partitions
        console = Console(file=(self.folder / "topics.txt").open("w"), width=500, highlight=False)
        layout = TopicLayout(users=partitions, items=item_partitions)
        code = await getattr(SetUp(settings.read(Tools, self.env), layout, console), do)()
        console.file.close()
        return code, (self.folder / "topics.txt").read_text()

    def run(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a `kairos` command to its end."""
        line = [sys.executable, "-m", "deploy.cli", *command]
        return subprocess.run(
            line, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def worker(self, *options: str, **env: str) -> WorkerProcess:
        """Start a worker process."""
        log = self.folder / f"worker{len(self._workers)}.log"
        started = WorkerProcess({**self.env, **env}, log, *options)
        self._workers.append(started)
        return started

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()

    async def send(self, records: Sequence[Sent], *, partition: int | None = None) -> None:
        """Produce records; those with an event must be counted, once."""
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, max_request_size=4 << 20, linger_ms=5)
        await producer.start()
        try:
            futures = [await producer.send(r.topic, r.value, r.key, partition=partition) for r in records]
            await asyncio.gather(*futures)
        finally:
            await producer.stop()
        self.events += [record.event for record in records if record.event is not None]

    async def ends(self, names: Sequence[str]) -> dict[tuple[str, int], int]:
        """End offsets of all partitions of topics."""
        async with Reader(self.kafka) as consumer:
            counts = {name: len(await self._partitions(consumer, name)) for name in names}
            tps = [TopicPartition(name, p) for name, count in counts.items() for p in range(count)]
            return {(tp.topic, tp.partition): end for tp, end in (await consumer.end_offsets(tps)).items()}

    @staticmethod
    async def _partitions(consumer: AIOKafkaConsumer, name: str) -> set[int]:
        await consumer._client._wait_on_metadata(name)
        return consumer.partitions_for_topic(name) or set()

    def redis(self) -> Any:
        """A client of the server itself; redis-py types sync and async replies as one."""
        return client_of(self.redis_url)

    async def fences(self) -> dict[tuple[str, int], int]:
        """Last applied offsets as Redis has them."""
        found = {}
        async with self.redis() as redis:
            tags = [(self.keys.user_tag(p), p) for p in range(self.partitions)]
            tags += [(self.keys.item_tag(q), q) for q in range(self.item_partitions)]
            for tag, partition in tags:
                meta = await redis.hgetall(Keys.meta(tag))
                for name, value in meta.items():
                    if name.startswith(b"o:"):
                        found[name[2:].decode(), partition] = int(value)
        return found

    async def applied(self, timeout_s: float = 60) -> None:
        """Wait until everything in the input topics is applied, deltas included."""
        deadline_s = time.monotonic() + timeout_s
        behind: dict[tuple[str, int], Any] = {}
        while time.monotonic() < deadline_s:
            ends, fences = await self.ends(self.topics.user_inputs), await self.fences()
            behind = {tp: (fences.get(tp), end) for tp, end in ends.items() if fences.get(tp, -1) < end - 1}
            if not behind:
                # User chunks are all applied, so all their deltas are in the topic by now.
                ends = await self.ends(self.topics.item_inputs)
                behind = {tp: (fences.get(tp), end) for tp, end in ends.items() if fences.get(tp, -1) < end - 1}
                if not behind:
                    return
            await asyncio.sleep(0.2)
        texts = "\n".join(f"--- {worker.log.name}\n{worker.text[-3000:]}" for worker in self._workers)
        message = f"not applied within {timeout_s} s: {behind}\n{texts}"
        raise AssertionError(message)

    async def wrong_users(self) -> dict[str, Any]:
        """Users whose stored row is not what an independent fold of their events says."""
        layout, expected = Layout(DEFAULT), oracle.user_rows(self.events)
        stored = await self._user_rows()
        wrong: dict[str, Any] = dict.fromkeys(stored.keys() - expected.keys(), "unexpected row")
        for user, row in expected.items():
            found = oracle.difference(row, layout.unpack([stored.get(user)])[0])
            if found:
                wrong[user] = found
        return wrong

    async def wrong_items(self) -> dict[str, Any]:
        """Items whose stored row is not what an independent fold of all events says."""
        layout, expected = ItemLayout(DEFAULT), oracle.item_rows(self.events)
        stored = await self._item_rows()
        wrong: dict[str, Any] = dict.fromkeys(stored.keys() - expected.keys(), "unexpected row")
        for item, row in expected.items():
            found = oracle.difference(row, layout.unpack([stored.get(item)])[0])
            if found:
                wrong[item] = found
        return wrong

    async def _user_rows(self) -> dict[str, bytes]:
        found = {}
        async with self.redis() as redis:
            for partition in range(self.partitions):
                prefix = Keys.row(self.keys.user_tag(partition), b"")
                async for key in redis.scan_iter(prefix + b"*", count=1000):
                    found[key.removeprefix(prefix).decode()] = await redis.get(key)
        return found

    async def _item_rows(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        async with self.redis() as redis:
            for partition in range(self.item_partitions):
                rows = await redis.hgetall(Keys.item_rows(self.keys.item_tag(partition)))
                found |= {item.decode(): row for item, row in rows.items()}
        return found

    async def read(self, topic: str) -> list[Any]:
        """Every record of a topic, partition by partition."""
        records: list[Any] = []
        async with Reader(self.kafka) as consumer:
            for (name, partition), end in (await self.ends([topic])).items():
                tp = TopicPartition(name, partition)
                consumer.assign([tp])
                consumer.seek(tp, (await consumer.beginning_offsets([tp]))[tp])
                while await consumer.position(tp) < end:
                    records += (await consumer.getmany(tp, timeout_ms=500)).get(tp, [])
        return records


class Reader:
    """A consumer without a group, as a context."""

    def __init__(self, kafka: str) -> None:
        self.consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)

    async def __aenter__(self) -> AIOKafkaConsumer:
        await self.consumer.start()
        await asyncio.sleep(0)  # its coordinator has to have begun before it can be stopped
        return self.consumer

    async def __aexit__(self, *_: object) -> None:
        await self.consumer.stop()


def events(topics: Topics, n: int, *, seed: int = 1, users: int = 150, items: int = 60) -> list[Sent]:
    """Seeded events of the last two hours, a few of them late, spread over the four topics."""
    random, now_ms = Random(seed), time.time_ns() // 1_000_000
    made = []
    for i in range(n):
        word = random.choices(["clicks", "browses", "orders", "feedback"], [4, 4, 2, 1])[0]
        ts_ms = now_ms - 7_200_000 + i * 7_000_000 // n - random.choice([0, 0, 0, 0, 400_000])
        event = {
            "user_id": f"u{min(random.randrange(users), random.randrange(users))}",
            "item_id": f"i{min(random.randrange(items), random.randrange(items))}",
            "kind": random.choice(KINDS[word]),
            "ts_ms": ts_ms,
            "dwell_ms": random.choice([0, 900, 42_000]),
            "scene": random.choice(SCENES),
            "page": random.choice(["home", "item", None]),
            "price": random.choice([None, 19.99]),
            "event_id": f"{seed}-{i}",
        }
        event = {name: value for name, value in event.items() if value is not None}
        made.append(Sent(getattr(topics, word), str(event["user_id"]).encode(), orjson.dumps(event), event))
    return made
