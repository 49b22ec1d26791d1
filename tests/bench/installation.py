"""One installation of Kairos for one run: its topics and namespace, the real worker, and what it left in Redis."""

import asyncio
import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.keys import Keys
from schemas.topics import Topics
from tests.bench.contender import ROOT, Contender, ContenderError, python
from tests.bench.gate import Gate
from tests.bench.traffic import WIRE

KAIROS = python("deploy.cli")
REFERENCE = Path(__file__).with_name("reference.toml")
GROUP_TIMEOUT_S = 6
_serial = itertools.count()


@dataclass
class Installation:
    """Topics under a prefix of their own and rows in a namespace of their own, on shared servers.

    `features` None is the default declaration. Items have half as many partitions as users.
    """

    kafka: str
    redis_url: str
    folder: Path
    partitions: int = 4
    features: Path | None = None
    prefix: str = field(default_factory=lambda: f"b{next(_serial)}-")
    namespace: str = field(default_factory=lambda: f"b{next(_serial)}")

    @property
    def topics(self) -> Topics:
        """Names of its topics."""
        return Topics(self.prefix, self.namespace)

    @property
    def item_partitions(self) -> int:
        """Partitions of its item topics."""
        return max(self.partitions // 2, 1)

    @property
    def env(self) -> dict[str, str]:
        """Settings of its processes."""
        features = {"KAIROS_FEATURES": str(self.features)} if self.features else {}
        return features | {
            "KAIROS_KAFKA": self.kafka,
            "KAIROS_REDIS": self.redis_url,
            "KAIROS_TOPIC_PREFIX": self.prefix,
            "KAIROS_NAMESPACE": self.namespace,
            "KAIROS_GROUP": self.namespace,
            "KAIROS_HTTP": "127.0.0.1:0",
            "KAIROS_HORIZON_DAYS": "4000",
            "KAIROS_LOG_LEVEL": "warning",
            "KAIROS_SESSION_TIMEOUT_S": str(GROUP_TIMEOUT_S),
        }

    def create(self) -> None:
        """Create topics that are missing and write what their offsets mean."""
        sizes = ["--partitions", str(self.partitions), "--item-partitions", str(self.item_partitions)]
        command = [*KAIROS, "topics", "create", *sizes]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("KAIROS_")}
        done = subprocess.run(
            command, env=clean | self.env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            message = f"kairos topics create failed: {done.stdout}{done.stderr}"
            raise ContenderError(message)

    def sibling(self) -> "Installation":
        """The same topics read from their start into a namespace of its own."""
        return Installation(self.kafka, self.redis_url, self.folder, self.partitions, self.features, prefix=self.prefix)

    def worker(self, env: Mapping[str, str] | None = None) -> Contender:
        """Start the worker; it is under measurement from its first word to Kafka."""
        return self.process("worker", env or {})

    def process(self, name: str, env: Mapping[str, str]) -> Contender:
        """Start `kairos NAME` in the same way."""
        return self.started(name, [*KAIROS, name], env)

    def started(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Contender:
        """Start any command that reads our settings, in the same way."""
        gate = Gate(int(self.kafka.rpartition(":")[2]))
        settings = {**self.env, **env, "KAIROS_KAFKA": gate.address}
        return Contender(name, command, settings, folder=self.folder, gate=gate)

    def topic_of_kinds(self) -> list[str]:
        """Topic of each kind code of `traffic.WIRE`: all clicks and browses in one for the reference work."""
        topics = self.topics
        if self.features == REFERENCE:
            return [topics.clicks] * len(WIRE)
        home = {"browse": topics.browses, "click": topics.clicks}
        orders = {"add-to-cart", "purchase", "return"}
        return [home.get(word, topics.orders if word in orders else topics.feedback) for word in WIRE]

    def fences(self, client: redis.Redis) -> dict[tuple[str, int], int]:
        """Last applied offset of every input partition."""
        keys, topics = Keys(self.namespace), self.topics
        wanted = [(t, p, keys.user_tag(p)) for t in topics.user_inputs for p in range(self.partitions)]
        wanted += [(t, p, keys.item_tag(p)) for t in topics.item_inputs for p in range(self.item_partitions)]
        pipeline = client.pipeline(transaction=False)
        for topic, _, tag in wanted:
            pipeline.hget(Keys.meta(tag).decode(), f"o:{topic}")
        found = pipeline.execute()
        return {(topic, p): -1 if o is None else int(o) for (topic, p, _), o in zip(wanted, found, strict=True)}

    def user_ends(self) -> dict[tuple[str, int], int]:
        """End offset of every partition keyed by user."""
        return self._ends([TopicPartition(t, p) for t in self.topics.user_inputs for p in range(self.partitions)])

    def item_ends(self) -> dict[tuple[str, int], int]:
        """End offset of every partition keyed by item."""
        return self._ends([TopicPartition(t, p) for t in self.topics.item_inputs for p in range(self.item_partitions)])

    def _ends(self, wanted: list[TopicPartition]) -> dict[tuple[str, int], int]:
        async def ask() -> dict[TopicPartition, int]:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
            await consumer.start()
            try:
                return dict(await consumer.end_offsets(wanted))
            finally:
                await consumer.stop()

        return {(tp.topic, tp.partition): end for tp, end in asyncio.run(ask()).items()}

    def rows(self, client: redis.Redis) -> dict[str, bytes]:
        """The row of every user, by user id."""
        return dict(self._rows(client))

    def _rows(self, client: redis.Redis) -> Iterator[tuple[str, bytes]]:
        tags = [Keys(self.namespace).user_tag(p) for p in range(self.partitions)]
        for tag in tags:
            start = Keys.row(tag, b"")
            found = list(client.scan_iter(match=start.replace(b"{", b"[{]") + b"*", count=5_000))
            for at in range(0, len(found), 5_000):
                part = found[at : at + 5_000]
                for key, row in zip(part, cast("list[bytes]", client.mget(part)), strict=True):
                    yield key[len(start) :].decode(), row
