"""A Valkey Cluster of primaries on this machine: one slot range each, formed and ready when `start` returns."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import redis

from deploy.stack import ports
from deploy.stack.errors import StackError
from deploy.stack.valkey import Valkey

_SLOTS = 16_384


class ValkeyCluster:
    """Primaries that share the slots evenly; `.nodes` are plain servers that a test can kill, pause or start again."""

    def __init__(self, folder: Path, *, primaries: int = 3, config: Mapping[str, str] | None = None) -> None:
        self._formed = False
        self.nodes = [
            Valkey(Path(folder) / f"node{number}", config={**_cluster_settings(), **(config or {})})
            for number in range(primaries)
        ]

    @property
    def url(self) -> str:
        """The address of one node as KAIROS_REDIS takes it; a client learns the others."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self, timeout_s: float = 30) -> Self:
        """Start every node, hand out the slots the first time, and block until all nodes agree."""
        for node in self.nodes:
            node.start(timeout_s)
        if not self._formed:
            self._form()
        self._wait_agreed(timeout_s)
        self._formed = True
        return self

    def stop(self) -> None:
        """Shut every node down."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _form(self) -> None:
        share = -(-_SLOTS // len(self.nodes))
        for number, node in enumerate(self.nodes):
            with redis.Redis(port=node.port) as client:
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
                last = min((number + 1) * share, _SLOTS) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", str(number * share), str(last))
                for other in self.nodes[:number]:
                    client.execute_command(
                        "CLUSTER", "MEET", "127.0.0.1", str(other.port), other.directive("cluster-port")
                    )

    def _wait_agreed(self, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not all(self._agrees(node) for node in self.nodes):
            if time.monotonic() > deadline_s:
                msg = f"The Valkey cluster did not agree within {timeout_s:.0f} s; see {self.nodes[0].log}."
                raise StackError(msg)
            time.sleep(0.05)

    def _agrees(self, node: Valkey) -> bool:
        with redis.Redis(port=node.port) as client:
            said = client.execute_command("CLUSTER", "INFO").split()
        return b"cluster_state:ok" in said and f"cluster_known_nodes:{len(self.nodes)}".encode() in said


def _cluster_settings() -> dict[str, str]:
    return {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": "5000",
        "cluster-port": str(ports.free_port()),
    }
