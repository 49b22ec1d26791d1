"""How much room Redis has left, for /metrics: rows never expire, so somebody has to see them grow."""

import asyncio
import logging
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from redis.asyncio.cluster import RedisCluster

from streams.service.trouble import TROUBLE

LOOK_EVERY_S = 30.0

log = logging.getLogger(__name__)


class Room:
    """Gauges over all primaries: bytes used, bytes allowed (0 where nothing limits them), and keys."""

    def __init__(self, client: Any, registry: CollectorRegistry) -> None:
        self._client = client
        self.used = Gauge("kairos_redis_used_bytes", "Memory that Redis uses, all of it.", registry=registry)
        self.most = Gauge("kairos_redis_max_bytes", "Memory that Redis may use, 0 for no limit.", registry=registry)
        self.keys = Gauge(
            "kairos_redis_keys", "Keys in Redis: one a user, two where there was a push.", registry=registry
        )

    async def watch(self) -> None:
        """Look for ever; while Redis is away the last figures stay."""
        while True:
            try:
                await self.look()
            except TROUBLE as error:
                log.debug("Redis does not say how full it is: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Ask once. Raises RedisError."""
        client = self._client
        cluster = isinstance(client, RedisCluster)
        nodes_asked: dict[str, Any] = {"target_nodes": RedisCluster.PRIMARIES} if cluster else {}
        infos = await client.info("memory", **nodes_asked)
        nodes = list(infos.values()) if cluster else [infos]
        self.used.set(sum(node.get("used_memory", 0) for node in nodes))
        self.most.set(sum(node.get("maxmemory", 0) for node in nodes))
        counts = await client.execute_command("DBSIZE", **nodes_asked)
        self.keys.set(sum(counts.values()) if isinstance(counts, dict) else counts)
