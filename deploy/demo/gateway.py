"""A simulated push gateway: takes candidates, drops doubles, lets people react, and counts silences by reason."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer

from deploy.demo.ledger import Ledger
from schemas import decisions, recommendations
from schemas.recommendations import Recommendation
from schemas.topics import Topics

POLL_MS = 100
SHOWN = 8


class Push(NamedTuple):
    """One push handed to the people: when, to whom, what, how well it fits, and after how long."""

    at_ms: int
    user_id: str
    item_id: str
    title: str
    final: float
    reason: str
    waited_ms: float | None


@dataclass
class Gateway:
    """Reads recommendations.v1 and decisions.v1; `deliver(user, item, now_ms)` is told of every new candidate.

    `waits_ms`: from a live event's acknowledgement by Kafka to its candidate there; `beyond_ms`: what of that exceeds
    the deliberate delay of the event's class; `places_ms`: where the model worker says they waited. `silence` counts
    decisions without a push by the rule that failed.
    """

    topics: Topics
    ledger: Ledger
    deliver: Callable[[str, str, int], None]
    candidates: int = 0
    repeated: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    silence: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    waits_ms: list[float] = field(default_factory=list)
    places_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    beyond_ms: list[float] = field(default_factory=list)
    pushes: deque[Push] = field(default_factory=lambda: deque(maxlen=SHOWN))
    decided_ms: deque[int] = field(default_factory=deque)
    _seen: set[str] = field(default_factory=set)

    @property
    def rescored(self) -> int:
        """Users decided about so far, each as often as it happened."""
        return self.outcomes.total()

    def rescored_per_s(self, now_ms: int, span_ms: int = 3_000) -> float:
        """Rate of decisions over the last `span_ms`."""
        while self.decided_ms and self.decided_ms[0] < now_ms - span_ms:
            self.decided_ms.popleft()
        return len(self.decided_ms) / (span_ms / 1000)

    async def run(self, kafka: Mapping[str, Any]) -> None:
        """Consume both topics from their beginning until cancelled."""
        consumer = AIOKafkaConsumer(
            self.topics.recommendations,
            self.topics.decisions,
            **kafka,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=POLL_MS,
        )
        await consumer.start()
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    for record in records:
                        self.take(record.topic, record.value, record.timestamp)
        finally:
            await consumer.stop()

    def take(self, topic: str, value: bytes, produced_ms: int) -> None:
        """Read one record that was produced at `produced_ms`."""
        if topic == self.topics.recommendations:
            self._candidate(recommendations.decode(value), produced_ms)
        else:
            self._decision(decisions.decode(value), produced_ms)

    def _candidate(self, candidate: Recommendation, produced_ms: int) -> None:
        if candidate.mode != "live" or candidate.status == "retracted":
            return
        if candidate.dedup_key in self._seen:
            self.repeated += 1
            return
        self._seen.add(candidate.dedup_key)
        self.candidates += 1
        user, item = candidate.user.id, candidate.item.id
        waiting = self.ledger.answered(user, produced_ms)
        waited_ms = None if waiting is None else produced_ms - waiting.since_ms
        if waiting is not None and waited_ms is not None:
            self.waits_ms.append(waited_ms)
            self.beyond_ms.append(max(produced_ms - waiting.due_ms, 0.0))
            for place, place_ms in candidate.waited_ms.items():
                self.places_ms[place].append(place_ms)
        final = candidate.scores.final if candidate.scores is not None else candidate.relevance
        reason = candidate.reasons[0] if candidate.reasons else ""
        title = candidate.item.title or item
        self.pushes.appendleft(Push(produced_ms, user, item, title, final, reason, waited_ms))
        self.deliver(user, item, produced_ms)

    def _decision(self, decision: decisions.Decision, produced_ms: int) -> None:
        self.outcomes[decision.outcome] += 1
        self.models[decision.versions.model] += 1
        self.decided_ms.append(produced_ms)
        if decision.outcome != "sent":
            self.ledger.answered(decision.user, produced_ms)
            failed = next((step for step in reversed(decision.steps) if not step.passed), None)
            self.silence[decision.outcome if failed is None else failed.rule] += 1


def percentile(values: list[float], share: float) -> float | None:
    """The value below which `share` of the values lie, None when there are none."""
    if not values:
        return None
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
