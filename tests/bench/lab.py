"""The servers of one benchmark run, and a run of the real worker on them: catch-up until everything is applied."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from rich.console import Console

from deploy.stack import Broker, Valkey
from tests.bench import produce
from tests.bench.contender import Contender, Spent
from tests.bench.installation import Installation
from tests.bench.traffic import Traffic

MICRO = 1e6


@dataclass(frozen=True)
class Lab:
    """A broker and a Valkey of our own (append-only file, fsync every second), on an otherwise unused port each."""

    folder: Path
    broker: Broker
    valkey: Valkey
    client: redis.Redis
    console: Console

    def installation(self, features: Path | None = None, *, partitions: int = 4) -> Installation:
        """An installation whose topics are not there yet."""
        return Installation(self.broker.address, self.valkey.url, self.folder, partitions, features)

    def say(self, text: str) -> None:
        """Tell the person who waits what is being measured."""
        self.console.print(f"[dim]… {text}[/]")


@dataclass(frozen=True)
class CatchUp:
    """A log worked off: the worker's cost, Redis's CPU seconds, and the number of events."""

    spent: Spent
    redis_cpu_s: float
    events: int

    @property
    def us_per_event(self) -> float:
        """Worker CPU."""
        return self.spent.cpu_s / self.events * MICRO

    @property
    def redis_us_per_event(self) -> float:
        """Redis CPU."""
        return self.redis_cpu_s / self.events * MICRO


@contextmanager
def open_lab(console: Console) -> Iterator[Lab]:
    """Start the servers in a temporary folder, and stop and remove everything at the end."""
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as name:
        folder = Path(name)
        with (
            Broker(folder / "kafka", say=console.print) as broker,
            Valkey(folder / "valkey") as valkey,
            redis.Redis.from_url(valkey.url) as client,
        ):
            yield Lab(folder, broker, valkey, client, console)


def fill(installation: Installation, traffic: Traffic) -> None:
    """Create the installation's topics and send all events."""
    installation.create()
    publish(installation, traffic)


def publish(installation: Installation, traffic: Traffic) -> None:
    """Send all events to topics that are there."""
    topics = installation.topic_of_kinds()
    asyncio.run(produce.publish(installation.kafka, topics, traffic, installation.partitions))


def catch_up(
    installation: Installation, client: redis.Redis, events: int, env: Mapping[str, str] | None = None
) -> CatchUp:
    """Let a new worker apply the whole log, from its first word to Kafka to the last fence."""
    before_s = redis_cpu_s(client)
    worker = installation.worker(env)
    spent = worker.run(applied(installation, client))
    return CatchUp(spent, redis_cpu_s(client) - before_s, events)


def catch_up_tail(installation: Installation, client: redis.Redis, events: int) -> float:
    """CPU µs an event of the second half of the log, when caches are warm and the process has long started."""
    worker = installation.worker()
    try:
        return _tail(worker, installation, client, events)
    finally:
        worker.stop()


def _tail(worker: Contender, installation: Installation, client: redis.Redis, events: int) -> float:
    def seen() -> int:
        return sum(fence + 1 for fence in installation.fences(client).values())

    worker.wait(lambda: seen() >= events // 2, every_s=0.02)
    half_s, half = worker.spent().cpu_s, seen()
    worker.wait(lambda: seen() >= events, every_s=0.02)
    return (worker.spent().cpu_s - half_s) / (events - half) * MICRO


def applied(installation: Installation, client: redis.Redis) -> Callable[[], bool]:
    """Tells whether every input is applied to its present end: events first, then the item deltas they caused."""
    waiting = {"users": installation.user_ends()}

    def behind(ends: dict[tuple[str, int], int]) -> bool:
        fences = installation.fences(client)
        return any(fences[at] + 1 < end for at, end in ends.items())

    def done() -> bool:
        if behind(waiting["users"]):
            return False
        # A delta is sent before the fence that covers it, so all of them are in their topic now.
        waiting.setdefault("items", installation.item_ends())
        return not behind(waiting["items"])

    return done


def redis_cpu_s(client: redis.Redis) -> float:
    """User and system seconds of the server, all its threads."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
