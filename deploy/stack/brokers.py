"""Several Kafka brokers on this machine that copy every topic among each other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from deploy.stack import ports
from deploy.stack.broker import Broker
from deploy.stack.quorum import Seat, cluster_id

JVM = ("-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")


class KafkaCluster:
    """Brokers of one cluster; `.brokers` are plain servers that a test can kill, pause or start again.

    Topics of Kafka's own are copied to all of them, and a write counts when all but one have it.
    """

    def __init__(self, folder: Path, *, brokers: int = 3, config: Mapping[str, str] | None = None) -> None:
        seats = {node: ports.free_port() for node in range(1, brokers + 1)}
        cluster, settings = cluster_id(), {**_copied(brokers), **(config or {})}
        self.brokers = [
            Broker(Path(folder) / f"broker{node}", config=settings, seat=Seat(node, seats, cluster), jvm=JVM)
            for node in seats
        ]

    @property
    def address(self) -> str:
        """Every broker's host:port, as KAIROS_KAFKA takes them."""
        return ",".join(broker.address for broker in self.brokers)

    def start(self, timeout_s: float = 60) -> Self:
        """Start all, and block until each answers."""
        for broker in self.brokers:
            broker.launch()
        for broker in self.brokers:
            broker.wait_ready(timeout_s)
        return self

    def stop(self) -> None:
        """Shut all down; those left at the end have no majority to ask, and are not waited for."""
        for broker in self.brokers:
            if broker.running:
                broker.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _copied(brokers: int) -> dict[str, str]:
    copies, enough = str(brokers), str(max(1, brokers - 1))
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": enough,
        "share.coordinator.state.topic.replication.factor": copies,
        "transaction.state.log.min.isr": enough,
        "transaction.state.log.replication.factor": copies,
    }
