"""How every topic of an installation is laid out: partitions, retention, clean-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.topics import Topics

DAY_MS = 86_400_000
LARGEST_RECORD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class TopicLayout:
    """Partitions of topics keyed by user and by item, and on how many brokers each is copied.

    `retention_days` is how long user events are kept: a rebuild can only fold what the log still holds.
    """

    users: int = 8
    items: int = 4
    replication: int = 1
    retention_days: int = 90


@dataclass(frozen=True)
class PlannedTopic:
    """A topic as it has to be; `config` holds the settings that matter, the rest is the operator's."""

    name: str
    partitions: int
    config: Mapping[str, str]

    @property
    def cleanup(self) -> str:
        return self.config["cleanup.policy"]


def plan(topics: Topics, layout: TopicLayout) -> tuple[PlannedTopic, ...]:
    """All topics of the installation. Inputs are never compacted: applied history must stay readable."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(layout.retention_days * DAY_MS)}
    week = {"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS)}
    month = {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS)}
    # A dead letter holds a whole foreign record; a delta record holds the ids of all items of a chunk.
    large = {"max.message.bytes": str(LARGEST_RECORD_BYTES)}
    return (
        *(PlannedTopic(name, layout.users, kept) for name in topics.user_inputs),
        PlannedTopic(topics.items, layout.items, {"cleanup.policy": "compact"}),
        # Longer than the item side's worst lag and any rollback of Redis, both of which re-read it.
        PlannedTopic(topics.deltas, layout.items, week | large),
        PlannedTopic(topics.recommendations, layout.users, week),
        PlannedTopic(topics.decisions, layout.users, month),
        PlannedTopic(topics.dead_letters, layout.users, month | large),
    )
