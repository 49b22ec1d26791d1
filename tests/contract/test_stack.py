"""The local stack is the real thing: servers keep their data over restarts and end with the one who started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis import Redis
from redis.asyncio import RedisCluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.stack import Broker, KafkaCluster, LocalStack, StackError, Valkey, ValkeyCluster, ValkeySentinel

ROOT = Path(__file__).parents[2]


async def _create(kafka: str, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


async def _produce(kafka: str, topic: str, values: list[bytes], **options: object) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, **options)
    try:
        await producer.start()
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def _read(kafka: str, topic: str, count: int, **options: object) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest", **options) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(count)]


async def test_a_record_produced_is_a_record_consumed(kafka: str, topic_prefix: str) -> None:
    values = [b"%d" % number for number in range(100)]
    await _create(kafka, f"{topic_prefix}numbers", 3)
    await _produce(kafka, f"{topic_prefix}numbers", values)
    assert await _read(kafka, f"{topic_prefix}numbers", 100) == values


async def test_topics_are_never_created_by_accident(kafka: str, topic_prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.describe_topics([f"{topic_prefix}typo"])
        assert f"{topic_prefix}typo" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_a_transaction_is_seen_whole_or_not_at_all(kafka: str, topic_prefix: str) -> None:
    topic = f"{topic_prefix}paid"
    await _create(kafka, topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=topic) as producer:
        with pytest.raises(ZeroDivisionError):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"aborted")
                raise ZeroDivisionError
        async with producer.transaction():
            await producer.send_and_wait(topic, b"kept")
    assert await _read(kafka, topic, 1, isolation_level="read_committed") == [b"kept"]


def test_valkey_keeps_what_was_written(redis_url: str, namespace: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.set(namespace, "kept", ex=60)
        assert client.get(namespace) == b"kept"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.slow
async def test_a_broker_comes_back_with_its_data_after_stop_and_kill(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker()
    await _create(broker.address, "kept", 1)
    await _produce(broker.address, "kept", [b"before stop"])
    broker.stop()
    broker.start()
    await _produce(broker.address, "kept", [b"before kill"])
    broker.kill()
    assert not broker.child.alive
    broker.start()
    assert await _read(broker.address, "kept", 2) == [b"before stop", b"before kill"]


@pytest.mark.slow
async def test_a_secured_listener_asks_for_a_password(make_broker: Callable[..., Broker]) -> None:
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="right";'
    broker = make_broker(
        listeners={"SECURE": "SASL_PLAINTEXT"},
        config={
            "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": login,
        },
    )
    await _create(broker.address, "secret", 1)
    entry = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": "shop"}
    await _produce(broker.addresses["SECURE"], "secret", [b"in"], sasl_plain_password="right", **entry)
    assert await _read(broker.address, "secret", 1) == [b"in"]
    with pytest.raises(Exception, match="Unable to bootstrap"):
        await _produce(broker.addresses["SECURE"], "secret", [b"in"], sasl_plain_password="wrong", **entry)


@pytest.mark.slow
async def test_what_three_brokers_took_outlives_any_one_of_them(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path) as cluster:
        admin = AIOKafkaAdminClient(bootstrap_servers=cluster.address)
        await admin.start()
        await admin.create_topics([NewTopic("kept", 1, 3)])
        await _produce(cluster.address, "kept", [b"before"], acks="all")
        (topic,) = await admin.describe_topics(["kept"])
        await admin.close()
        leader = cluster.brokers[topic["partitions"][0]["leader"] - 1]
        leader.kill()
        await _produce(cluster.address, "kept", [b"without the leader"], acks="all")
        leader.start()
        assert await _read(cluster.address, "kept", 2) == [b"before", b"without the leader"]


def test_a_valkey_killed_keeps_what_it_acknowledged(make_valkey: Callable[..., Valkey]) -> None:
    valkey = make_valkey(config={"maxmemory": "64mb"})
    with Redis(port=valkey.port) as client:
        client.set("kept", "yes")
    valkey.kill()
    valkey.start()
    with Redis(port=valkey.port) as client:
        assert client.get("kept") == b"yes"
        assert client.config_get("maxmemory") == {"maxmemory": str(64 << 20)}


def test_a_paused_valkey_answers_again_after_resume(make_valkey: Callable[..., Valkey]) -> None:
    valkey = make_valkey()
    valkey.pause()
    with (
        Redis(port=valkey.port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(Exception, match="Timeout"),
    ):
        client.ping()
    valkey.resume()
    with Redis(port=valkey.port) as client:
        assert client.ping()


async def test_a_cluster_serves_every_slot(make_cluster: Callable[..., ValkeyCluster]) -> None:
    cluster = make_cluster()
    client = RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    try:
        for number in range(50):
            await client.set(f"key{number}", number)
        assert {len(client.get_primaries())} == {3}
        assert [await client.get(f"key{number}") for number in range(50)] == [b"%d" % number for number in range(50)]
    finally:
        await client.aclose()
    with Redis(port=cluster.nodes[1].port) as node:
        assert 0 < int(node.dbsize()) < 50


def test_a_sentinel_promotes_the_replica_of_a_killed_primary(make_sentinel: Callable[..., ValkeySentinel]) -> None:
    trio = make_sentinel()
    with Redis(port=trio.primary.port) as client:
        client.set("kept", "yes")
        client.wait(1, 5_000)
    trio.primary.kill()
    trio.wait_promoted()
    with Redis(port=trio.primary_port()) as client:
        assert client.get("kept") == b"yes"
        client.set("after", "promotion")


def test_a_taken_port_is_named_with_the_way_out(make_valkey: Callable[..., Valkey], tmp_path: Path) -> None:
    taken = make_valkey().port
    with pytest.raises(StackError, match=f"Port {taken} on 127.0.0.1 is taken, so Kafka .* name another port"):
        Broker(tmp_path, port=taken)


def test_a_server_that_ends_at_once_shows_the_end_of_its_log(make_valkey: Callable[..., Valkey]) -> None:
    with pytest.raises(StackError, match=r"(?s)Valkey ended at once .*Bad directive"):
        make_valkey(config={"no-such-directive": "1"})


def test_servers_named_in_the_environment_are_used_and_left_running(make_valkey: Callable[..., Valkey]) -> None:
    valkey = make_valkey()
    env = {"KAIROS_KAFKA": "127.0.0.1:9", "KAIROS_REDIS": valkey.url}
    with LocalStack(env=env) as stack:
        assert stack.environment() == env
        assert stack.broker is None
    with Redis(port=valkey.port) as client:
        assert client.ping()


def test_servers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, threading, time; from deploy.stack import Valkey\n"
        "valkey = Valkey(pathlib.Path(sys.argv[1]))\n"
        "starter = threading.Thread(target=valkey.start); starter.start(); starter.join()\n"
        "print(valkey.child.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)
    os.kill(pid, 0)  # the thread that started it has ended, the server has not
    parent.kill()
    parent.communicate()
    _wait_gone(pid, timeout_s=15)


def _wait_gone(pid: int, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return  # ended; whoever inherited it has not reaped it yet
        if time.monotonic() > deadline_s:
            os.kill(pid, signal.SIGKILL)
            pytest.fail(f"process {pid} outlived its parent")
        time.sleep(0.1)
