"""The servers of one run by layout, with what some faults need: a proxy before Redis, a small disk below Kafka."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis

from deploy.stack import Broker, KafkaCluster, Valkey, ValkeyCluster, ValkeySentinel
from tests.faults import rights
from tests.faults.fault import Layout
from tests.faults.proxy import Proxy
from tests.faults.security import Doors

KAFKA = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000", "log.cleaner.backoff.ms": "500"}
VALKEY = {"key-load-delay": "500", "loading-process-events-interval-bytes": "1024"}
"""Half a millisecond for each key of a snapshot, so that loading lasts long enough to be met."""
SMALL_DISK_MIB = 200


class Servers:
    """Real servers in a folder; `redis` is what the processes are told, `direct_redis` leaves a proxy out."""

    def __init__(self, folder: Path, layout: Layout, needs: Collection[str]) -> None:
        self.folder, self.layout, self.needs = folder, layout, frozenset(needs)
        self.disk = folder / "kafka"
        self.proxy: Proxy | None = None
        self.sentinel: ValkeySentinel | None = None
        self.cluster: ValkeyCluster | None = None
        self._group: KafkaCluster | None = None
        self.doors = Doors(folder) if "doors" in needs else None
        if layout is Layout.BROKERS:
            self._group = KafkaCluster(folder / "kafka", config=KAFKA)
            self.brokers = self._group.brokers
        else:
            self.brokers = [self._broker()]
        self.valkeys = self._valkeys()
        self._running = ExitStack()

    def _broker(self) -> Broker:
        if self.doors is None:
            return Broker(self.disk, config=KAFKA)
        self.doors.make()
        listeners = {"SECURE": "SASL_SSL"}
        config = {**KAFKA, **self.doors.of_broker()}
        return Broker(self.disk, config=config, listeners=listeners, users=self.doors.passwords)

    def _valkeys(self) -> list[Valkey]:
        if self.layout is Layout.SENTINEL:
            self.sentinel = ValkeySentinel(self.folder / "sentinel")
            return [self.sentinel.primary, self.sentinel.replica]
        if self.layout is Layout.CLUSTER:
            self.cluster = ValkeyCluster(self.folder / "cluster")
            return self.cluster.nodes
        if self.doors is not None:
            users = {f"user {name}": words for name, words in rights.of_redis(self.doors.passwords).items()}
            single = Valkey(self.folder / "valkey", config={**VALKEY, **users})
            self.proxy = Proxy(single.port, tls=self.doors.tls())
            return [single]
        single = Valkey(self.folder / "valkey", config=VALKEY)
        if "proxy" in self.needs:
            self.proxy = Proxy(single.port)
        return [single]

    @property
    def kafka(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    @property
    def secure_kafka(self) -> str:
        """Where those who must log in are let in."""
        return self.brokers[0].addresses["SECURE"]

    @property
    def direct_redis(self) -> str:
        if self.sentinel is not None:
            return self.sentinel.url
        return self.cluster.url if self.cluster is not None else self.valkeys[0].url

    @property
    def redis(self) -> str:
        return self.direct_redis if self.proxy is None else f"redis://127.0.0.1:{self.proxy.port}"

    @property
    def copies(self) -> int:
        """On how many brokers each topic is copied."""
        return len(self.brokers)

    def primary(self) -> Valkey:
        """The Valkey that takes the writes now; of a Cluster, the first node."""
        if self.sentinel is None:
            return self.valkeys[0]
        port = self.sentinel.primary_port()
        return next(valkey for valkey in self.valkeys if valkey.port == port)

    def start(self) -> Self:
        """Start everything and block until it answers; what started is stopped again when the rest fails."""
        with ExitStack() as undo:
            if "small disk" in self.needs:
                undo.callback(unmount, self.disk)
                mount(self.disk, SMALL_DISK_MIB)
            if self.proxy is not None:
                undo.enter_context(self.proxy)
            redis_side = self.sentinel or self.cluster or self.valkeys[0]
            undo.enter_context(redis_side)
            undo.enter_context(self._group or self.brokers[0])
            self._running = undo.pop_all()
        return self

    def stop(self) -> None:
        """End everything at once: nothing of a run is needed after it."""
        for server in [*self.brokers, *self.valkeys]:
            if server.running:
                server.kill()
        self._running.close()


def mount(folder: Path, mib: int) -> None:
    """Put a small file system there. Raises OSError with what the system said."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise OSError(done.stderr.strip())


def unmount(folder: Path) -> None:
    """Take it away again; harmless where nothing is mounted."""
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def may_mount() -> str | None:
    """Why this machine cannot have a small disk, None where it can."""
    if os.geteuid() != 0:
        return "mounting a small file system needs root"
    probe = Path(f"/tmp/kairos-mount-{os.getpid()}")
    try:
        mount(probe, 1)
    except OSError as error:
        return f"a small file system cannot be mounted here: {error}"
    finally:
        unmount(probe)
        probe.rmdir()
    return None


def client(valkey: Valkey) -> redis.Redis:
    """A client of one server itself, for a fault to act through."""
    return redis.Redis(port=valkey.port, socket_timeout=10)
