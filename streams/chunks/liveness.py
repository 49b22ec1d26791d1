"""The liveness rule: a thread that watches the worker from outside its event loops and ends the process when stuck.

Each rule was seen to fire on a worker that Faust, aiokafka and Kafka all took for healthy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from faust.types import TP

from streams.chunks.consumer import ChunkConsumer
from streams.chunks.transport import ChunkedApp

EXIT_STUCK = 70
RESTART = "The process ends so that its supervisor starts it again; nothing is lost."

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How long each kind of standstill may last."""

    progress_s: float = 60.0
    loop_s: float = 30.0
    stop_s: float = 20.0
    recovery_s: float = 3.0


class Finding(NamedTuple):
    """One rule's answer: `stuck` now, and fatal once it has been so for `limit_s`."""

    rule: Hashable
    stuck: bool
    limit_s: float
    cause: str
    remedy: str = RESTART


class Held:
    """Remembers since when each rule has been true."""

    def __init__(self) -> None:
        self._since_s: dict[Hashable, float] = {}

    def overdue(self, finding: Finding, now_s: float) -> bool:
        """Whether the finding has been stuck without a break for longer than its limit."""
        if not finding.stuck:
            self._since_s.pop(finding.rule, None)
            return False
        return now_s - self._since_s.setdefault(finding.rule, now_s) >= finding.limit_s

    def forget(self, rule: Hashable) -> None:
        self._since_s.pop(rule, None)


class Watched:
    """One Faust app under watch: the topics it must see, and `fence(topic, partition)`, the last offset applied.

    `excuse()` names what is away (Redis, Kafka), or is empty: meanwhile only the loop and the stop are judged.
    """

    def __init__(
        self,
        app: ChunkedApp,
        topics: Sequence[str],
        fence: Callable[[str, int], int],
        excuse: Callable[[], str],
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.app, self.topics, self.fence, self.excuse, self.limits = app, topics, fence, excuse, limits
        self.loop = loop
        self.beat_s = time.monotonic()
        self._best: dict[TP, tuple[int, int]] = {}

    def findings(self, now_s: float) -> Iterator[Finding]:
        """All rules in the order in which they explain each other."""
        app = self.app
        ending = app._crashed.is_set() or app._stopped.is_set()
        cause = f"the worker was told to stop and has not (crashed: {app._crashed.is_set()})"
        yield Finding("stop", ending, self.limits.stop_s, cause)
        if ending:
            return
        yield from self._loop(now_s)
        kafka = self._kafka_consumer()
        yield Finding("consumer", kafka is None, self.limits.progress_s, "no Kafka consumer was ever started")
        if kafka is not None:
            yield from self._coordination(kafka)
            yield from self._readiness()
            yield from self._assignment(kafka)
            yield from self._progress()

    def _loop(self, now_s: float) -> Iterator[Finding]:
        self.loop.call_soon_threadsafe(self._beat)
        blocked_s = now_s - self.beat_s
        cause = f"the event loop has not turned for {blocked_s:.0f} s: something blocks it"
        yield Finding("loop", blocked_s > 5, self.limits.loop_s, cause)

    def _beat(self) -> None:
        self.beat_s = time.monotonic()

    def _consumer(self) -> ChunkConsumer:
        return cast("ChunkConsumer", self.app._consumer)

    def _kafka_consumer(self) -> Any:
        return None if self.app._consumer is None else self._consumer()._thread._consumer

    def _coordination(self, kafka: Any) -> Iterator[Finding]:
        """Faust never asks the coordinator for its errors, and never looks at these tasks again."""
        coordinator = kafka._coordinator
        error = coordinator._pending_exception
        cause = f"the group coordinator reports {error!r}, which nobody would read"
        remedy = "Check that all workers of the group run the same version and settings, and the group's permissions."
        yield Finding("coordinator", error is not None, 0.0, cause, remedy)
        yield Finding(
            "coordination", coordinator._coordination_task.done(), 0.0, "the group coordination task has ended"
        )
        yield Finding("fetch", kafka._fetcher._fetch_task.done(), 0.0, "the fetch task has ended")
        recovery = cast("Any", self.app.tables).recovery
        alive = any("_restart_recovery" in repr(task) and not task.done() for task in recovery._futures)
        ended = recovery._started.is_set() and not alive
        yield Finding(
            "recovery", ended, self.limits.recovery_s, "Faust's recovery task has ended: no seek would follow"
        )

    def _readiness(self) -> Iterator[Finding]:
        flowing = self._consumer().flow_active
        stuck = (self.app.rebalancing or not flowing) and not self.excuse()
        cause = f"no rebalance came to its end (rebalancing: {self.app.rebalancing}, flow active: {flowing})"
        yield Finding("ready", stuck, self.limits.progress_s, cause)

    def _assignment(self, kafka: Any) -> Iterator[Finding]:
        """No partition is right for a spare worker of a settled group, and a fault otherwise."""
        excused = bool(self.excuse())
        empty = not self._consumer().assignment() and not self._consumer().joined() and not excused
        yield Finding("assignment", empty, self.limits.progress_s, "this worker never became a member of its group")
        for topic in self.topics:
            gone = not excused and not kafka._client.cluster.partitions_for_topic(topic)
            remedy = "Run `kairos topics check`."
            yield Finding(("topic", topic), gone, self.limits.progress_s, f"topic {topic} is not in Kafka", remedy)

    def _progress(self) -> Iterator[Finding]:
        """By position, not by fence: commit markers and compaction leave a tail that no fence can reach."""
        consumer, excused = self._consumer(), bool(self.excuse())
        assigned, stopped = consumer.assignment(), consumer.stopped
        for tp in assigned:
            position, end, _ = consumer.log_state(tp)
            fence = self.fence(tp.topic, tp.partition)
            waits = end > position or any(last > fence for last in consumer.in_flight(tp))
            todo = waits and tp not in stopped
            cause = (
                f"{tp.topic}[{tp.partition}] makes no progress: applied to {fence}, read to {position}, log end {end}, "
                f"{len(consumer._paused_partitions)} partitions paused, {len(consumer._buffered_partitions)} full"
            )
            stuck = todo and not self._moved(tp, fence, position) and not excused
            yield Finding(("progress", tp), stuck, self.limits.progress_s, cause)
        for tp in self._best.keys() - assigned:
            del self._best[tp]
            yield Finding(("progress", tp), False, 0.0, "")

    def _moved(self, tp: TP, fence: int, position: int) -> bool:
        best = self._best.get(tp, (-1, -1))
        now = max(best[0], fence), max(best[1], position)
        self._best[tp] = now
        return now != best


def end_process(cause: str, remedy: str, code: int = EXIT_STUCK) -> None:
    """Leave at once, without waiting for anything that may be what hangs."""
    logger.critical("Liveness: %s. %s", cause, remedy)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(code)


class Probe(threading.Thread):
    """Judges every watched app once a second; `end` is called with cause and remedy and normally does not return."""

    def __init__(
        self, watched: Sequence[Watched], *, end: Callable[[str, str], None] = end_process, interval_s: float = 1.0
    ) -> None:
        super().__init__(daemon=True, name="liveness")
        self.watched, self.end, self.interval_s = watched, end, interval_s
        self._held = [Held() for _ in watched]
        self._done = threading.Event()

    def stop(self) -> None:
        """End the thread; only a process that lives on without a worker (a test) needs it."""
        self._done.set()

    def run(self) -> None:
        while not self._done.wait(self.interval_s):
            for watched, held in zip(self.watched, self._held, strict=True):
                self._judge(watched, held)

    def _judge(self, watched: Watched, held: Held) -> None:
        now_s = time.monotonic()
        try:
            for finding in watched.findings(now_s):
                if held.overdue(finding, now_s):
                    held.forget(finding.rule)
                    self.end(finding.cause, finding.remedy)
        except Exception:  # this thread must outlive whatever changes under its eyes between assignments
            if held.overdue(Finding("probe", True, watched.limits.progress_s, ""), now_s):
                held.forget("probe")
                logger.exception("Liveness cannot judge this worker")
        else:
            held.forget("probe")
