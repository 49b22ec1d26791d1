"""The worker's metrics: read from the sides when Prometheus asks, so that counting costs the hot path nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.app import Side
from streams.breaker import Breaker

CHUNK_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
READY = "1 when the worker reads and applies."
SCRIPT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


class Words(NamedTuple):
    """A counter by word: its help, the name of the label, and where the counts are."""

    about: str
    label: str
    counts: Callable[[], Mapping[str, int]]


class OfNow(Collector):
    """The metrics of the registry that a worker has now, None before it begins: counters begin anew with each."""

    def __init__(self, now: Callable[[], CollectorRegistry | None]) -> None:
        self.now = now

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        registry = self.now()
        if registry is None:
            yield GaugeMetricFamily("kairos_ready", READY, value=0)
        else:
            yield from registry.collect()


class SideCollector(Collector):
    """Everything countable of the given sides; `words` adds counters by word, by their metric name."""

    def __init__(self, sides: Sequence[Side], words: Mapping[str, Words], ready: Callable[[], bool]) -> None:
        self.sides, self.words, self.ready = sides, words, ready

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("kairos_ready", READY, value=int(self.ready()))
        yield from self._tables()
        yield from self._reading()
        for name, (about, label, counts) in self.words.items():
            family = CounterMetricFamily(name, about, labels=[label])
            for word, count in sorted(counts().items()):
                family.add_metric([word], count)
            yield family

    def _tables(self) -> Iterator[Metric]:
        for name, about, field in (
            ("kairos_applied_records", "Records folded into a table.", "applied"),
            ("kairos_duplicate_records", "Records at or below the fence, left out.", "skipped"),
            ("kairos_applied_chunks", "Chunks folded into a table.", "chunks"),
            ("kairos_cas_conflicts", "Writes that found the fence moved by somebody else.", "conflicts"),
            ("kairos_unknown_outcomes", "Writes whose reply never came.", "unknown"),
            ("kairos_rows_read", "Rows read because they were not in memory.", "rows_read"),
            ("kairos_rows_written", "Rows written.", "rows_written"),
        ):
            family = CounterMetricFamily(name, about, labels=["table"])
            for side in self.sides:
                family.add_metric([side.name], getattr(side.table.stats, field))
            yield family
        errors = CounterMetricFamily("kairos_redis_errors", "Calls to Redis that were tried again.", labels=["table"])
        rewinds = CounterMetricFamily(
            "kairos_rewinds", "Partitions read again from the fence.", labels=["table", "cause"]
        )
        for side in self.sides:
            errors.add_metric([side.name], side.table.weather.errors)
            rewinds.add_metric([side.name, "hole"], side.table.stats.rewinds)
            rewinds.add_metric([side.name, "audit"], side.audit.rewinds)
        yield errors
        yield rewinds

    def _reading(self) -> Iterator[Metric]:
        chunks = CounterMetricFamily("kairos_chunks", "Chunks by what became of them.", labels=["table", "outcome"])
        rebalances = CounterMetricFamily("kairos_rebalances", "Rebalances of the group.", labels=["table"])
        partitions = GaugeMetricFamily("kairos_assigned_partitions", "Partitions read here.", labels=["table"])
        about = "Of these, the ones that a hole in their log has stopped; /ready says which and why."
        stopped = GaugeMetricFamily("kairos_stopped_partitions", about, labels=["table"])
        for side in self.sides:
            for outcome, count in sorted(side.agent.outcomes.items()):
                chunks.add_metric([side.name, outcome], count)
            rebalances.add_metric([side.name], side.app.rebalancing_count)
            consumer = side.consumer
            partitions.add_metric([side.name], len(consumer.assignment()) if consumer else 0)
            stopped.add_metric([side.name], len(side.stopped))
        yield from (chunks, rebalances, partitions, stopped)
        yield from self._lag()

    def _lag(self) -> Iterator[Metric]:
        labels = ["topic", "partition"]
        fences = GaugeMetricFamily("kairos_fence_offset", "Last offset applied.", labels=labels)
        lags = GaugeMetricFamily("kairos_lag_offsets", "Offsets from the fence to the readable end.", labels=labels)
        seconds = GaugeMetricFamily(
            "kairos_lag_seconds", "Age of the newest applied record, 0 at the end.", labels=labels
        )
        oldest = GaugeMetricFamily("kairos_oldest_unacknowledged_seconds", "Oldest chunk not settled.", labels=labels)
        pending = GaugeMetricFamily("kairos_open_transaction_offsets", "Behind an open transaction.", labels=labels)
        for side in self.sides:
            consumer = side.consumer
            for tp in sorted(consumer.assignment()) if consumer else ():
                names = [tp.topic, str(tp.partition)]
                lag = side.lag(tp)
                if lag is not None:
                    for family, value in zip((fences, lags, seconds, oldest, pending), lag, strict=True):
                        family.add_metric(names, value)
        yield from (fences, lags, seconds, oldest, pending)


class LetterShares(Collector):
    """How near the breaker of each partition is to tripping."""

    def __init__(self, breakers: Sequence[Breaker]) -> None:
        self.breakers = breakers

    def collect(self) -> Iterator[Metric]:
        about, labels = "Dead letters among the last records (KAIROS_BREAKER_RECORDS).", ["topic", "partition"]
        family = GaugeMetricFamily("kairos_dead_letter_share", about, labels=labels)
        for breaker in self.breakers:
            for topic, partition, share in breaker.shares():
                family.add_metric([topic, str(partition)], share)
        yield family
        opened = sum(len(breaker.open) for breaker in self.breakers)
        yield GaugeMetricFamily("kairos_breakers_open", "Partitions that a breaker has stopped.", value=opened)


def registry() -> CollectorRegistry:
    """A registry with what every process shows: CPU, memory, files, garbage collector, Python version."""
    own = CollectorRegistry()
    ProcessCollector(registry=own)
    PlatformCollector(registry=own)
    GCCollector(registry=own)
    return own


def chunk_histogram(own: CollectorRegistry) -> Histogram:
    """Records a chunk."""
    return Histogram("kairos_chunk_records", "Records a chunk.", ["table"], buckets=CHUNK_RECORDS, registry=own)


def script_histogram(own: CollectorRegistry) -> Histogram:
    """Seconds of one atomic write."""
    return Histogram("kairos_script_seconds", "Seconds of one atomic write.", ["table"], buckets=SCRIPT_S, registry=own)
