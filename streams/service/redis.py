"""Builds the Redis client from the settings: one server, Cluster or Sentinel, with TLS and ACL."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from redis._parsers.base import BaseParser
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from streams.service.addresses import RedisAddress, redis_address
from streams.service.settings import Connections

Client: TypeAlias = Redis | RedisCluster

CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 5.0  # bounds a frozen server
MAX_CONNECTIONS = 64
LOST = "the connection was closed while a call was on it"


class NotNowError(ResponseError):
    """The server refuses for the moment: a script runs too long, its disk is full, its replicas are away."""


# redis-py has no class for these words, and callers would have to look for them in texts that a pipeline changes.
BaseParser.EXCEPTION_CLASSES |= dict.fromkeys(("BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE"), NotNowError)


def connect(connections: Connections) -> Client:
    """A client, not connected yet, that speaks bytes and never retries by itself: the caller owns the one loop."""
    address = redis_address(connections.redis)
    options = _options(connections, address)
    if address.kind == "cluster":
        return _cluster(address, options)
    if address.kind == "sentinel":
        return _sentinel(address, options)
    ((host, port),) = address.hosts
    return Redis(host=host, port=port, db=address.db, ssl=address.tls, **options)


async def eviction_policies(client: Any) -> dict[str, str]:
    """maxmemory-policy by server, of every primary where there are several; none where the server does not tell."""
    cluster = isinstance(client, RedisCluster)
    infos = await client.info("memory", **({"target_nodes": RedisCluster.PRIMARIES} if cluster else {}))
    nodes = infos if cluster else {"the address given": infos}
    return {name: info["maxmemory_policy"] for name, info in nodes.items() if "maxmemory_policy" in info}


def eviction(policies: Mapping[str, str]) -> str:
    """A sentence with the remedy when a server may delete keys by itself, else empty."""
    for where, policy in policies.items():
        if policy != "noeviction":
            return (
                f"Redis at {where} runs with maxmemory-policy {policy}, which silently deletes rows and fences: set "
                "`maxmemory-policy noeviction` in its configuration and start again."
            )
    return ""


def _cluster(address: RedisAddress, options: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    client = RedisCluster(startup_nodes=nodes, ssl=address.tls, **options)
    # Its constructor takes no class of connections, but hands this one on to every node that it finds.
    kind = _TlsConnection if address.tls else _PlainConnection
    client.connection_kwargs["connection_class"] = kind
    for node in client.startup_nodes:
        node.connection_class = kind
    return client


class _Closable:
    """A connection that redis-py closes under its users, of a Cluster or Sentinel, when it looks for the nodes anew.

    What they meet then is an AttributeError, or uvloop's RuntimeError; it is a connection that was lost.
    """

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]  # a mix-in
        except (AttributeError, RuntimeError) as error:
            raise RedisConnectionError(LOST) from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)  # type: ignore[misc]  # a mix-in
        except (AttributeError, RuntimeError) as error:
            raise RedisConnectionError(LOST) from error


class _PlainConnection(_Closable, Connection):
    """Without TLS."""


class _TlsConnection(_Closable, SSLConnection):
    """With TLS."""


def _sentinel(address: RedisAddress, options: dict[str, Any]) -> Redis:
    # Sentinels have users and passwords of their own, so they share the transport and the time-outs only.
    transport = {
        name: value for name, value in options.items() if name.startswith(("socket_", "ssl_", "retry", "protocol"))
    }
    sentinel: Any = Sentinel  # redis-py leaves its constructor untyped
    known = sentinel(address.hosts, sentinel_kwargs={**transport, "ssl": address.tls})
    kind = _TlsToPrimary if address.tls else _PlainToPrimary
    client: Redis = known.master_for(
        address.service,
        connection_pool_class=_Pool,
        connection_class=kind,
        db=address.db,
        ssl=address.tls,
        **options,
    )
    return client


class _PlainToPrimary(_Closable, SentinelManagedConnection):
    """Without TLS."""


class _TlsToPrimary(_Closable, SentinelManagedSSLConnection):
    """With TLS."""


class _Pool(SentinelConnectionPool):
    """Connections to the primary that take those to the Sentinels along when all of them close."""

    sentinel_manager: Sentinel

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        # Only the idle ones close when one caller finds another primary: the others still ask the Sentinels for it.
        if inuse_connections:
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
