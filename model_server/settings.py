"""Everything that the model worker reads from the environment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_server.batcher import BatchLimits
from model_server.policy.settings import PolicySettings
from streams.service.addresses import host_ports
from streams.service.settings import Connections, Log, Shell, setting, time_zone


@dataclass(frozen=True)
class ModelShell(Shell):
    """What the model worker shows of itself; its port leaves the stream worker's free on the same machine."""

    http: str = setting(
        "KAIROS_HTTP", "host:port of /live, /ready, /metrics; port 0 = any.", default="127.0.0.1:6067", check=host_ports
    )


@dataclass(frozen=True, kw_only=True)
class RankerSettings:
    """What users are scored with."""

    features: Path | None = setting("KAIROS_FEATURES", "features.toml over the default declaration.", default=None)
    zone: str = setting("KAIROS_ZONE", "Time zone of users whose own is unknown.", default="UTC", check=time_zone)
    model_dir: str | None = setting(
        "KAIROS_MODEL_DIR", "Folder of model bundles; the blend of the lists serves without one.", default=None
    )
    device: Literal["auto", "cpu", "cuda"] = setting("KAIROS_DEVICE", "Where the ranker runs.", default="auto")
    text: Literal["auto", "none", "minilm", "e5"] = setting(
        "KAIROS_TEXT", "Back end for items' titles; auto = the bundle's.", default="auto"
    )


@dataclass(frozen=True, kw_only=True)
class WhyTools(RankerSettings):
    """What `kairos why` needs."""

    connections: Connections
    shell: Log


@dataclass(frozen=True, kw_only=True)
class ModelSettings(RankerSettings):
    """What `kairos model` needs."""

    connections: Connections
    shell: ModelShell
    policy: PolicySettings
    batch_users: int = setting("KAIROS_BATCH_USERS", "Most users in a batch.", default=64, least=1, most=4096)
    batch_tokens: int = setting("KAIROS_BATCH_TOKENS", "Most tokens in a batch, padded.", default=16_384, least=1)
    batch_delay_ms: int = setting(
        "KAIROS_BATCH_DELAY_MS", "How long a user may wait for company.", default=25, least=0, most=10_000
    )
    batch_late_ms: int = setting(
        "KAIROS_BATCH_LATE_MS", "How far behind its deadline a user stops waiting.", default=100, least=0
    )
    lease_s: float = setting(
        "KAIROS_LEASE_S", "After this a crashed worker's users are scored again.", default=15, least=1
    )
    queue_poll_ms: int = setting(
        "KAIROS_QUEUE_POLL_MS", "Longest pause between two looks at the queue.", default=40, least=1, most=1000
    )
    item_poll_ms: int = setting(
        "KAIROS_ITEM_POLL_MS",
        "Pause between two looks at what changed of the items.",
        default=100,
        least=10,
        most=10_000,
    )
    reload_s: float = setting("KAIROS_RELOAD_S", "Pause between two looks for a newer bundle.", default=2, least=0.1)
    stop_s: float = setting("KAIROS_STOP_S", "How long a stop may take before it is forced.", default=20, least=1)

    @property
    def limits(self) -> BatchLimits:
        """When a batch is complete."""
        return BatchLimits(
            users=self.batch_users,
            tokens=self.batch_tokens,
            delay_ms=self.batch_delay_ms,
            late_ms=self.batch_late_ms,
        )
