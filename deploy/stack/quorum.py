"""One broker's place among those that elect the controller, and the id that they share."""

import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Seat:
    """Node number, controller port of every node by its number, and the cluster's id."""

    node: int
    ports: Mapping[int, int]
    cluster: str

    @property
    def address(self) -> str:
        """host:port where this node's controller listens."""
        return f"127.0.0.1:{self.ports[self.node]}"

    @property
    def voters(self) -> str:
        """Every node as `controller.quorum.voters` takes it."""
        return ",".join(f"{node}@127.0.0.1:{port}" for node, port in self.ports.items())


def cluster_id() -> str:
    """A random cluster id; one that starts with '-' would be read as an option by Kafka's tools."""
    while True:
        text = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
