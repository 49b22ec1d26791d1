"""Builds the Redis client from the settings: one server, Cluster or Sentinel, with TLS and ACL."""

from typing import Any, TypeAlias

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from streams.service.addresses import RedisAddress, redis_address
from streams.service.settings import Connections

Client: TypeAlias = Redis | RedisCluster

CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 5.0  # bounds a frozen server
MAX_CONNECTIONS = 64


def connect(connections: Connections) -> Client:
    """A client, not connected yet, that speaks bytes and never retries by itself: the caller owns the one loop."""
    address = redis_address(connections.redis)
    options = _options(connections, address)
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, ssl=address.tls, **options)
    if address.kind == "sentinel":
        return _sentinel(address, options)
    ((host, port),) = address.hosts
    return Redis(host=host, port=port, db=address.db, ssl=address.tls, **options)


def _sentinel(address: RedisAddress, options: dict[str, Any]) -> Redis:
    # Sentinels have users and passwords of their own, so they share the transport and the time-outs only.
    transport = {
        name: value for name, value in options.items() if name.startswith(("socket_", "ssl_", "retry", "protocol"))
    }
    sentinel: Any = Sentinel  # redis-py leaves its constructor untyped
    known = sentinel(address.hosts, sentinel_kwargs={**transport, "ssl": address.tls})
    client: Redis = known.master_for(
        address.service, connection_pool_class=_Pool, db=address.db, ssl=address.tls, **options
    )
    return client


class _Pool(SentinelConnectionPool):
    """Connections to the primary that take those to the Sentinels along when they close."""

    sentinel_manager: Sentinel

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


def _options(connections: Connections, address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": connections.redis_username or address.username,
        "password": connections.redis_password or address.password,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": MAX_CONNECTIONS,
    }
    files = {"ca_certs": connections.redis_ca, "certfile": connections.redis_cert, "keyfile": connections.redis_key}
    if address.tls:
        options |= {f"ssl_{name}": str(path) for name, path in files.items() if path is not None}
    return options
