"""Client options follow the settings; the contract tests connect with them."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.service import kafka, redis, settings
from streams.service.settings import Connections, SettingsError


def connections(**env: str) -> Connections:
    return settings.read(Connections, {f"KAIROS_{name}": text for name, text in env.items()})


def test_plain_kafka_needs_no_more_than_an_address() -> None:
    options = kafka.client_options(connections(KAFKA="a:1, b:2"))
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["security_protocol"] == "PLAINTEXT"
    assert options["ssl_context"] is None
    assert not any(name.startswith("sasl") for name in options)


def test_sasl_and_tls_reach_the_client() -> None:
    options = kafka.client_options(
        connections(KAFKA_SECURITY="SASL_SSL", KAFKA_USERNAME="u", KAFKA_PASSWORD="p", KAFKA_SASL_MECHANISM="PLAIN")
    )
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert options["ssl_context"].check_hostname
    given = (options["sasl_mechanism"], options["sasl_plain_username"], options["sasl_plain_password"])
    assert given == ("PLAIN", "u", "p")


def test_a_ca_file_that_is_none_is_an_error_at_once(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    for name in ("KAFKA", "REDIS"):
        with pytest.raises(SettingsError, match=f"KAIROS_{name}_CA={file} is no file of certificates in PEM"):
            connections(**{f"{name}_CA": str(file)})


def test_a_certificate_that_is_none_is_an_error_at_once(tmp_path: Path) -> None:
    file = tmp_path / "own.pem"
    file.write_text("no certificate")
    for name in ("KAFKA", "REDIS"):
        with pytest.raises(SettingsError, match=f"KAIROS_{name}_CERT={file} and KAIROS_{name}_KEY={file} are not"):
            connections(**{f"{name}_CERT": str(file), f"{name}_KEY": str(file)})


async def test_a_redis_client_never_retries_by_itself_and_gives_up_on_a_frozen_server() -> None:
    client = redis.connect(connections(REDIS="redis://app:one@h:1/2", REDIS_PASSWORD="two"))
    assert isinstance(client, Redis)
    options = client.connection_pool.connection_kwargs
    assert (options["username"], options["password"], options["db"]) == ("app", "two", 2)
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (5, 2)
    assert options["retry"].get_retries() == 0
    await client.aclose()


async def test_a_cluster_url_makes_a_cluster_client() -> None:
    client = redis.connect(connections(REDIS="rediss+cluster://h:1,i:2"))
    assert isinstance(client, RedisCluster)
    assert {node.port for node in client.startup_nodes} == {1, 2}
    assert client.retry.get_retries() == 0
    await client.aclose()


class Restless:
    """A client whose every question for metadata fails at once."""

    def __init__(self) -> None:
        self.asked = 0

    async def _metadata_update(self, cluster: object, topics: object) -> bool:
        self.asked += 1
        return False


async def test_a_client_is_kept_from_asking_for_metadata_all_the_time() -> None:
    client = Restless()
    kafka.calm(client, most=5, within_s=0.2)
    began_s = time.monotonic()
    for _ in range(5):
        assert await client._metadata_update(None, None) is False
    assert time.monotonic() - began_s < 0.15, "a few in a row are not held up"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                await client._metadata_update(None, None)
    assert 10 <= client.asked <= 20


class Closed:
    """A writer as uvloop leaves it to those who still use it."""

    def writelines(self, _: object) -> None:
        text = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        raise RuntimeError(text)

    def close(self) -> None:
        """It is."""

    async def wait_closed(self) -> None:
        """It is."""


class Sentinel:
    """A client of one Sentinel that tells whether it was closed."""

    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_a_caller_that_finds_another_primary_leaves_the_sentinels_to_the_others() -> None:
    client = redis.connect(connections(REDIS="redis+sentinel://a:1,b:2/rows"))
    assert isinstance(client, Redis)
    pool: Any = client.connection_pool
    asked = pool.sentinel_manager.sentinels = [Sentinel(), Sentinel()]
    await pool.disconnect(inuse_connections=False)
    assert not any(sentinel.closed for sentinel in asked)
    await pool.disconnect()
    assert all(sentinel.closed for sentinel in asked)


@pytest.mark.parametrize("url", ["redis+sentinel://a:1/rows", "rediss+sentinel://a:1/rows"])
async def test_a_connection_to_a_primary_that_was_closed_under_its_user_was_lost(url: str) -> None:
    client: Any = redis.connect(connections(REDIS=url))
    connection = client.connection_pool.make_connection()
    connection._reader, connection._writer = object(), Closed()
    with pytest.raises(RedisConnectionError, match="closed while a call was on it"):
        await connection.send_packed_command([b"PING"], check_health=False)
