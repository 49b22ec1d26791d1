"""What every Redis or Valkey server says of itself: version, memory, persistence, replicas; nothing here writes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

from streams.service.redis import Client


@dataclass(frozen=True)
class ServerFacts:
    """One server; None where it does not say. `max_bytes` 0: no limit. `snapshots`: whether it saves by itself."""

    name: str
    software: str
    version: str
    used_bytes: int
    max_bytes: int
    policy: str | None
    allocator: str
    fragmentation: float
    evicted_keys: int
    append_only: bool
    fsync: str | None
    snapshots: bool | None
    write_failed: str
    loading: bool
    replicas: int
    uptime_s: int

    @property
    def release(self) -> tuple[int, ...]:
        """The version that its commands follow, as numbers."""
        return tuple(int(part) for part in self.version.split(".") if part.isdecimal())


async def server_facts(client: Client) -> list[ServerFacts]:
    """Facts of the server, of every primary of a Cluster. Raises RedisError."""
    if not isinstance(client, RedisCluster):
        return [_facts("the address given", await client.info(), await _config(client, {}))]
    everywhere: dict[str, Any] = {"target_nodes": RedisCluster.PRIMARIES}
    infos: Any = await client.info(**everywhere)
    configs = await _config(client, everywhere)
    return [_facts(name, info, configs.get(name, configs)) for name, info in infos.items()]


async def clock_ahead_ms(client: Client) -> float:
    """How far this machine's clock is ahead of the server's, half a round trip allowed for."""
    asked = time.time_ns()
    seconds, microseconds = await client.time()
    heard = time.time_ns()
    return ((asked + heard) / 2 - (int(seconds) * 1_000_000_000 + int(microseconds) * 1_000)) / 1_000_000


async def cpu_seconds(client: Client) -> float:
    """CPU that all servers took since their start, user and system. Raises RedisError."""
    cluster = isinstance(client, RedisCluster)
    everywhere: dict[str, Any] = {"target_nodes": RedisCluster.PRIMARIES} if cluster else {}
    answer: Any = await client.info("cpu", **everywhere)
    infos = answer.values() if cluster else [answer]
    return sum(float(info[name]) for info in infos for name in ("used_cpu_user", "used_cpu_sys") if name in info)


async def _config(client: Any, everywhere: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, or by node; managed servers do not tell them."""
    found: dict[str, Any] = {}
    for name in ("appendfsync", "save"):
        try:
            answer = await client.config_get(name, **everywhere)
        except RedisError:
            continue
        for key, value in answer.items():
            if isinstance(value, dict):
                found.setdefault(key, {}).update(value)
            else:
                found[key] = value
    return found


def _facts(name: str, info: Mapping[str, Any], config: Mapping[str, Any]) -> ServerFacts:
    valkey = "valkey_version" in info
    save = config.get("save")
    failed = [
        words
        for key, words in (("aof_last_write_status", "the append-only file"), ("rdb_last_bgsave_status", "a snapshot"))
        if str(info.get(key, "ok")) != "ok"
    ]
    return ServerFacts(
        name=name,
        software="Valkey" if valkey else "Redis",
        version=str(info.get("valkey_version" if valkey else "redis_version", "")),
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        policy=info.get("maxmemory_policy"),
        allocator=str(info.get("mem_allocator", "")),
        fragmentation=float(info.get("mem_fragmentation_ratio", 0) or 0),
        evicted_keys=int(info.get("evicted_keys", 0)),
        append_only=bool(int(info.get("aof_enabled", 0))),
        fsync=config.get("appendfsync"),
        snapshots=None if save is None else bool(save),
        write_failed=" and ".join(failed),
        loading=bool(int(info.get("loading", 0))),
        replicas=int(info.get("connected_slaves", 0)),
        uptime_s=int(info.get("uptime_in_seconds", 0)),
    )
