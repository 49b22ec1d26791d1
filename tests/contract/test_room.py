"""How full Redis is can be seen, of one server and of a Cluster."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.stack import Valkey, ValkeyCluster
from streams.service import redis, settings
from streams.service.room import Room
from streams.service.settings import Connections


@pytest.mark.parametrize("kind", ["single", "cluster"])
async def test_bytes_and_keys_are_those_of_all_primaries(
    kind: str, make_valkey: Callable[..., Valkey], make_cluster: Callable[..., ValkeyCluster]
) -> None:
    server: Any = make_valkey(config={"maxmemory": "64mb"}) if kind == "single" else make_cluster()
    client: Any = redis.connect(settings.read(Connections, {"KAIROS_REDIS": server.url}))
    registry = CollectorRegistry()
    room = Room(client, registry)
    try:
        await room.look()
        before = registry.get_sample_value("kairos_redis_used_bytes") or 0.0
        for number in range(30):
            await client.set(f"{{{number}}}:x", b"x" * 100_000)
        await room.look()
        grown = (registry.get_sample_value("kairos_redis_used_bytes") or 0.0) - before
        assert 3_000_000 <= grown < 6_000_000
        assert registry.get_sample_value("kairos_redis_keys") == 30
        assert registry.get_sample_value("kairos_redis_max_bytes") == (64 * 2**20 if kind == "single" else 0)
    finally:
        await client.aclose()
