"""A Valkey primary with one replica and one Sentinel, which promotes the replica when the primary is gone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import redis

from deploy.stack.errors import StackError
from deploy.stack.valkey import Valkey

SERVICE = "kairos"


class ValkeySentinel:
    """Three servers to kill, pause or start again: `.primary`, `.replica` (as they began) and `.watcher`."""

    def __init__(self, folder: Path, *, down_after_ms: int = 1_000) -> None:
        self.primary = Valkey(Path(folder) / "primary")
        self.replica = Valkey(Path(folder) / "replica", config={"replicaof": f"127.0.0.1 {self.primary.port}"})
        self.watcher = _Watcher(Path(folder) / "sentinel", self.primary.port, down_after_ms)

    @property
    def url(self) -> str:
        """The address as KAIROS_REDIS takes it."""
        return f"redis+sentinel://127.0.0.1:{self.watcher.port}/{SERVICE}"

    def primary_port(self) -> int:
        """Return the port of the server that the Sentinel holds for the primary now."""
        with redis.Redis(port=self.watcher.port) as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)

    def wait_promoted(self, timeout_s: float = 30) -> None:
        """Block until the replica is the primary and clients are sent to it."""
        self._wait(
            lambda: self.primary_port() == self.replica.port and self._healthy(), "promoted the replica", timeout_s
        )

    def start(self, timeout_s: float = 30) -> Self:
        """Start all three and block until the replica follows and the Sentinel knows it."""
        for server in (self.primary, self.replica, self.watcher):
            server.start(timeout_s)
        self._wait(self._followed, "found a replica that follows", timeout_s)
        return self

    def stop(self) -> None:
        """Shut all three down, the Sentinel first so that it promotes nobody."""
        for server in (self.watcher, self.replica, self.primary):
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _healthy(self) -> bool:
        """Tell whether the Sentinel holds the primary for one that answers and takes writes."""
        with redis.Redis(port=self.watcher.port) as client:
            return bool(client.sentinel_master(SERVICE)["flags"] == "master")

    def _followed(self) -> bool:
        with redis.Redis(port=self.watcher.port) as client:
            known = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
        with redis.Redis(port=self.replica.port) as client:
            linked = dict(client.info("replication")).get("master_link_status")
        return len(known) == 1 and linked == "up"

    def _wait(self, done: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline_s:
                msg = f"The Sentinel has not {what} within {timeout_s:.0f} s; see {self.watcher.log}."
                raise StackError(msg)
            time.sleep(0.05)


class _Watcher(Valkey):
    """A server in Sentinel mode; it rewrites its settings file itself."""

    def __init__(self, folder: Path, primary_port: int, down_after_ms: int) -> None:
        super().__init__(folder)
        self._watch = {
            f"sentinel monitor {SERVICE}": f"127.0.0.1 {primary_port} 1",
            f"sentinel down-after-milliseconds {SERVICE}": str(down_after_ms),
            f"sentinel failover-timeout {SERVICE}": "10000",
        }

    def _directives(self) -> dict[str, str]:
        return {**self._place(), **self._watch}

    def _arguments(self) -> list[str]:
        return ["--sentinel"]
