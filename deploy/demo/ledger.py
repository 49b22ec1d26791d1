"""What Kafka has acknowledged, event by event, and who still waits for an answer: the demo's own book-keeping."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import orjson

from streams.features.declaration import Declaration
from streams.logs.logs import LogEvent


@dataclass
class Unanswered:
    """A user whose events nobody has answered: when the first was acknowledged, and by when an answer is wanted."""

    since_ms: float
    due_ms: float


@dataclass
class Ledger:
    """Events acknowledged by the broker, counted by (user, wire kind) and (item, wire kind)."""

    declaration: Declaration
    events: int = 0
    users: Counter[tuple[str, str]] = field(default_factory=Counter)
    items: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: dict[str, Unanswered] = field(default_factory=dict)
    recent_ms: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._of_items = {kind.wire for kind in self.declaration.item_kinds}
        self._delay_ms = {
            kind.wire: self.declaration.delays_ms[kind.priority]
            for kind in self.declaration.kinds
            if kind.priority is not None
        }

    def acknowledged(self, event: LogEvent) -> tuple[str, str]:
        """Enter an event that is in the topic for good; (user, wire kind)."""
        body = orjson.loads(event.value)
        user, kind = str(body["user_id"]), str(body["kind"])
        self.events += 1
        self.users[user, kind] += 1
        self._kinds[kind] += 1
        if kind in self._of_items:
            self.items[str(body["item_id"]), kind] += 1
        return user, kind

    def acknowledged_live(self, event: LogEvent, at_ms: float) -> None:
        """Enter a live event, acknowledged at `at_ms` by the wall clock; its user now waits for an answer."""
        user, kind = self.acknowledged(event)
        self.recent_ms.append(at_ms)
        delay_ms = self._delay_ms.get(kind)
        if delay_ms is None:
            return
        waiting = self.waiting.setdefault(user, Unanswered(at_ms, at_ms + delay_ms))
        waiting.due_ms = min(waiting.due_ms, at_ms + delay_ms)

    def answered(self, user: str, at_ms: float) -> Unanswered | None:
        """An answer to the user's events was produced at `at_ms`; what it answers, None when nothing older waits."""
        waiting = self.waiting.get(user)
        if waiting is None or waiting.since_ms > at_ms:
            return None
        return self.waiting.pop(user)

    def of_kind(self, kind: str) -> int:
        """Events of a wire kind so far."""
        return self._kinds[kind]

    def events_per_s(self, now_ms: float, span_ms: float = 3_000) -> float:
        """Rate of live events over the last `span_ms`."""
        while self.recent_ms and self.recent_ms[0] < now_ms - span_ms:
            self.recent_ms.popleft()
        return len(self.recent_ms) / (span_ms / 1000)


@dataclass(frozen=True)
class Balance:
    """What the rows say against what was acknowledged: rows compared, events expected, lost and counted double."""

    rows: int
    events: int
    lost: int
    doubled: int

    @classmethod
    def between(cls, expected: Counter[tuple[str, str]], stored: Counter[tuple[str, str]]) -> Balance:
        """Compare counts by (name, kind)."""
        both = expected.keys() | stored.keys()
        lost = sum(max(expected[cell] - stored[cell], 0) for cell in both)
        doubled = sum(max(stored[cell] - expected[cell], 0) for cell in both)
        return cls(len({name for name, _ in both}), expected.total(), lost, doubled)
