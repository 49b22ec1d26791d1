"""What the stream worker and its tools read from the environment: each reads what its class names and nothing else.

Asking ─ Tools ─ ReadSettings ┬ IntakeSettings ─ FoldSettings ┬ StreamSettings
                              └ GroupSettings ────────────────┘
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from streams.service.settings import Connections, Log, Shell, setting, time_zone


@dataclass(frozen=True)
class Asking:
    """What `kairos dead-letters` needs: no rows are looked into."""

    connections: Connections
    shell: Log

    def within(self, namespace: str) -> Self:
        """The same in another namespace."""
        return replace(self, connections=self.connections.within(namespace))


@dataclass(frozen=True)
class Tools(Asking):
    """What `kairos topics`, `inspect`, `parity` and `erase` need: which rows there are."""

    features: Path | None = setting("KAIROS_FEATURES", "features.toml over the default declaration.", default=None)


@dataclass(frozen=True)
class ReadSettings(Tools):
    """What `kairos lag` and `export` need: how the topics are read."""

    isolation: Literal["read_committed", "read_uncommitted"] = setting(
        "KAIROS_ISOLATION", "Whether aborted transactions are left out.", default="read_committed"
    )


@dataclass(frozen=True)
class IntakeSettings(ReadSettings):
    """What `kairos analyze` needs: which records count."""

    max_skew_s: int = setting("KAIROS_MAX_SKEW_S", "Later than the clock by more is left out.", default=300, least=0)
    horizon_days: int = setting("KAIROS_HORIZON_DAYS", "Older than this is left out.", default=400, least=1, most=4000)
    max_value_bytes: int = setting(
        "KAIROS_MAX_VALUE_BYTES", "Larger records become dead letters.", default=256 * 1024, least=1024
    )


@dataclass(frozen=True)
class FoldSettings(IntakeSettings):
    """What `kairos replay`, `backfill` and `promote` need: how records become rows."""

    zone: str = setting("KAIROS_ZONE", "Time zone of users whose own is unknown.", default="UTC", check=time_zone)
    chunk: int = setting(
        "KAIROS_CHUNK", "Most records of one topic folded in one step.", default=4000, least=1, most=10_000
    )
    cache_mib: int = setting("KAIROS_CACHE_MIB", "Rows of users held in memory.", default=256, least=1)


@dataclass(frozen=True)
class GroupSettings(ReadSettings):
    """What `kairos capacity` needs: in which groups the workers are."""

    group: str = setting(
        "KAIROS_GROUP", "Consumer group; the namespace (unless main) and the side are appended.", default="kairos"
    )

    def group_of(self, side: str) -> str:
        """Consumer group of a side; tables of another namespace read on their own."""
        namespace = self.connections.namespace
        return "-".join([self.group, *([namespace] if namespace != "main" else []), side])


@dataclass(frozen=True)
class StreamSettings(GroupSettings, FoldSettings):
    """What `kairos worker` needs."""

    shell: Shell
    breaker_records: int = setting(
        "KAIROS_BREAKER_RECORDS",
        "How many records of a topic and partition the breaker looks back over.",
        default=1000,
        least=1,
        most=100_000,
    )
    breaker_share: float = setting(
        "KAIROS_BREAKER_SHARE",
        "Stop when a larger share of these would be dead letters; 1 = never.",
        default=0.5,
        least=0,
        most=1,
    )
    fetch_wait_ms: int = setting(
        "KAIROS_FETCH_WAIT_MS", "How long Kafka may gather user events for one answer.", default=75, least=1, most=1000
    )
    fetch_min_bytes: int = setting(
        "KAIROS_FETCH_MIN_BYTES", "Answer at once when this much is there.", default=262_144, least=1
    )
    item_fetch_wait_ms: int = setting(
        "KAIROS_ITEM_FETCH_WAIT_MS", "The same for item deltas.", default=250, least=1, most=1000
    )
    item_fetch_min_bytes: int = setting(
        "KAIROS_ITEM_FETCH_MIN_BYTES", "The same for item deltas.", default=262_144, least=1
    )
    fetch_max_bytes: int = setting(
        "KAIROS_FETCH_MAX_BYTES", "Most bytes a partition adds to one answer.", default=1_048_576, least=1024
    )
    buffer: int = setting("KAIROS_BUFFER", "Chunks a partition holds ready.", default=2, least=1, most=1000)
    session_timeout_s: float = setting(
        "KAIROS_SESSION_TIMEOUT_S", "Silence after which Kafka gives a worker's partitions away.", default=45, least=1
    )
    seek_deadline_s: float = setting(
        "KAIROS_SEEK_DEADLINE_S", "How long an assignment may wait for Redis and Kafka.", default=20, least=1, most=300
    )
    liveness_s: float = setting(
        "KAIROS_LIVENESS_S", "Standstill after which the process ends itself.", default=60, least=1
    )
    stop_s: float = setting("KAIROS_STOP_S", "How long a stop may take before it is forced.", default=20, least=1)
    instance: str | None = setting(
        "KAIROS_INSTANCE",
        "Static member name, unique in the group: a quick restart keeps its partitions.",
        default=None,
    )

    @property
    def read_committed(self) -> bool:
        return self.isolation == "read_committed"
