"""`kairos lag` and `kairos doctor` on real Kafka and Valkey: what they say when it is well, and when it is not."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.stack import Broker, Valkey
from schemas.keys import Keys
from tests.installation import Installation, Sent, events
from tests.worker_process import ROOT, until

pytestmark = pytest.mark.slow

NOWHERE = {"KAIROS_KAFKA": "127.0.0.1:1", "KAIROS_REDIS": "redis://127.0.0.1:1"}


@pytest.fixture
def installation(bare: Installation) -> Installation:
    return bare


async def told(installation: Installation, *command: str) -> tuple[int, dict[str, Any]]:
    """Exit code and object of a verb with --json."""
    ended = await asyncio.to_thread(installation.run, *command, "--json")
    assert "Traceback" not in ended.stderr
    return ended.returncode, orjson.loads(ended.stdout)


def troubles(known: dict[str, Any]) -> dict[str, list[str]]:
    """Sentences that are not green, by section."""
    return {
        name: [finding["what"] for finding in section["findings"] if finding["state"] != "green"]
        for name, section in known["sections"].items()
        if section["state"] != "green"
    }


async def test_lag_counts_what_is_not_applied_and_who_waits(installation: Installation) -> None:
    await installation.set_up()
    await installation.send(events(installation.topics, 2_000))

    code, known = await told(installation, "lag", "--most", "100")
    assert code == 1
    assert known["behind"] == 2_000
    assert all("offsets behind, more than 100" in sentence for sentence in known["troubles"])
    assert 0 <= known["topics"][installation.topics.clicks]["oldest_age_ms"] < 120_000
    assert known["queue"]["due"] == known["queue"]["waiting"] == 0
    assert (await told(installation, "lag"))[0] == 0

    worker = installation.worker()
    await worker.ready()
    await installation.applied()
    code, known = await told(installation, "lag", "--most", "0")
    assert (code, known["behind"], known["troubles"]) == (0, 0, [])
    assert {part["fence"] + 1 for part in known["partitions"]} == {part["end"] for part in known["partitions"]}
    queue = known["queue"]
    assert queue["due"] + queue["waiting"] > 100
    await asyncio.sleep(0.6)
    oldest = (await told(installation, "lag"))[1]["queue"]["oldest"]
    assert oldest["user_id"].startswith("u")
    assert oldest["waits_ms"] > oldest["late_ms"] > 0


async def test_markers_of_a_transaction_are_no_lag(installation: Installation) -> None:
    from aiokafka import AIOKafkaProducer

    await installation.set_up()
    (record,) = (r for r in events(installation.topics, 1))
    async with (
        AIOKafkaProducer(
            bootstrap_servers=installation.kafka, transactional_id=installation.keys.namespace
        ) as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(record.topic, record.value, record.key)
    worker = installation.worker()
    await worker.ready()
    fences: dict[Any, int] = {}
    while not fences:
        fences = await installation.fences()
    code, known = await told(installation, "lag", "--most", "0")
    assert (code, known["behind"]) == (0, 0)


async def test_lag_is_watched_until_interrupted_and_is_that_of_the_namespace_in_force(
    installation: Installation,
) -> None:
    await installation.set_up()
    await installation.send(events(installation.topics, 400))
    watching = await asyncio.to_thread(_piped, installation, "lag", "--watch", "0.3", "--json")
    assert watching.stdout is not None
    lines = [await asyncio.to_thread(watching.stdout.readline) for _ in range(3)]
    watching.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(watching.wait, 20) == 130
    watching.stdout.close()
    assert [orjson.loads(line)["behind"] for line in lines] == [400] * 3

    async with installation.redis() as redis:
        await redis.hset(Keys.installation(installation.keys.namespace), mapping={"live": "other", "serving": "other"})
    ended = await asyncio.to_thread(installation.run, "lag")
    assert ended.stderr.startswith("Namespace other is not initialised in Redis at redis://")


async def test_lag_says_what_is_missing(installation: Installation) -> None:
    ended = await asyncio.to_thread(installation.run, "lag")
    assert ended.returncode == 1
    assert f"{installation.topics.clicks}, " in ended.stderr
    assert "Run `kairos topics create`" in ended.stderr

    await installation.set_up()
    ended = await asyncio.to_thread(_with(installation, KAIROS_NAMESPACE="elsewhere").run, "lag")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Namespace elsewhere is not initialised in Redis at redis://")

    for name, where in NOWHERE.items():
        ended = await asyncio.to_thread(_with(installation, **{name: where}).run, "lag")
        assert ended.returncode == 1
        assert "does not answer: " in ended.stderr
        assert f"Set {name} to where it is." in ended.stderr


async def test_the_doctor_finds_nothing_wrong_with_a_running_installation(
    kafka: str, make_valkey: Callable[..., Valkey], topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    valkey = make_valkey(config={"maxmemory": "1gb"})
    installation = Installation(kafka, valkey.url, topic_prefix, namespace, tmp_path)
    installation.env |= {"KAIROS_SESSION_TIMEOUT_S": "12", "KAIROS_HORIZON_DAYS": "500"}
    try:
        await installation.set_up()
        await installation.send(events(installation.topics, 1_000))
        worker = installation.worker()
        await worker.ready()
        await installation.applied()
        code, known = await told(installation, "doctor")
    finally:
        installation.close()
    assert code == 0
    assert troubles(known) == {"model": ["KAIROS_MODEL_DIR is not set: the rank blend serves."]}
    sections = known["sections"]
    assert set(sections) >= {"versions", "settings", "kafka", "redis", "topics", "rows", "workers", "memory"}
    (members,) = {len(group["members"]) for group in sections["workers"]["groups"].values()}
    assert members == 1
    assert "KAIROS_HORIZON_DAYS" in sections["settings"]["changed"]
    assert {part["name"] for part in sections["memory"]["parts"]} >= {"rows", "queue", "item rows", "fences"}
    assert sections["dead letters"]["records_last_hour"] == 1_000


async def test_the_doctor_names_each_trouble_with_its_remedy(installation: Installation) -> None:
    await installation.set_up()
    topics = installation.topics
    await installation.send([Sent(topics.clicks, b"u1", b"{no json"), Sent(topics.clicks, b"u2", None)])
    worker = installation.worker()
    await worker.ready()
    await until(lambda: worker.metric("kairos_dead_letters_total") >= 2, 20, lambda: worker.text, worker)
    worker.kill()
    await installation.send([Sent(topics.clicks, b"u%d" % n, b"{}") for n in range(300)], partition=0)
    async with installation.redis() as redis:
        await redis.hset(installation.keys.meta(installation.keys.user_tag(0)), f"i:{topics.orders}", "another")
        await redis.zadd(installation.keys.queue(installation.keys.user_tag(2)), {"old": 1_000_000_000_000 * 4 + 1})
    installation.env |= {"KAIROS_CHUNKZ": "1", "KAIROS_MODEL_DIR": str(installation.folder / "none")}

    code, known = await told(installation, "doctor")

    found = troubles(known)
    assert code == 1
    assert known["verdict"] == "red"
    assert any("is another topic than the table was built from" in what for what in found["topics"])
    assert any("lie in another partition" in what for what in found["topics"])
    assert any("KAIROS_CHUNKZ" in what for what in found["settings"])
    assert any("no folder" in what for what in found["model"])
    assert "2 in the last hour" in found["dead letters"][0]
    assert "json 1" in found["dead letters"][0]
    assert "old (click) waits for" in found["affected users"][0]
    remedies = [f["remedy"] for s in known["sections"].values() for f in s["findings"] if f["state"] != "green"]
    assert all(remedies)


@pytest.mark.parametrize("name", NOWHERE)
async def test_the_doctor_goes_on_without_a_server(installation: Installation, name: str) -> None:
    code, known = await told(_with(installation, **{name: NOWHERE[name]}), "doctor")
    assert code == 1
    silent, other = ("kafka", "redis") if name == "KAIROS_KAFKA" else ("redis", "kafka")
    assert known["sections"][silent]["findings"][0]["remedy"] == f"Set {name} to where it is."
    assert known["sections"][other]["state"] != "red"
    assert known["sections"]["not looked at"]["state"] == "yellow"


async def test_the_doctor_needs_no_settings_that_can_be_read(installation: Installation) -> None:
    code, known = await told(_with(installation, KAIROS_CHUNK="many", KAIROS_KAFKA="nowhere"), "doctor")
    assert code == 1
    assert len(known["sections"]["settings"]["findings"]) == 2


async def test_frozen_servers_do_not_hold_the_doctor_up(
    make_broker: Callable[..., Broker], make_valkey: Callable[..., Valkey], topic_prefix: str, tmp_path: Path
) -> None:
    broker, valkey = make_broker(), make_valkey()
    installation = Installation(broker.address, valkey.url, topic_prefix, "frozen", tmp_path)
    await installation.set_up()
    broker.pause()
    valkey.pause()
    code, known = await told(installation, "doctor")
    assert code == 1
    assert {known["sections"][name]["state"] for name in ("kafka", "redis")} == {"red"}


async def test_both_work_on_a_cluster(
    kafka: str, redis_cluster_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    installation = Installation(kafka, redis_cluster_url, topic_prefix, namespace, tmp_path)
    try:
        await installation.set_up()
        await installation.send(events(installation.topics, 500))
        worker = installation.worker()
        await worker.ready()
        await installation.applied()
        code, known = await told(installation, "lag", "--most", "0")
        assert (code, known["behind"]) == (0, 0)
        code, known = await told(installation, "doctor")
        assert code == 0
        assert len(known["sections"]["redis"]["servers"]) == 3
        rows = next(part for part in known["sections"]["memory"]["parts"] if part["name"] == "rows")
        assert rows["members"] > 100
    finally:
        installation.close()


async def test_capacity_measures_what_runs_and_says_what_it_assumes(installation: Installation) -> None:
    await installation.set_up()
    code, known = await told(installation, "capacity", "--for", "0", "--users", "1_000_000", "--events-per-s", "500000")
    assert code == 0
    figures = [figure for part in ("memory of Redis", "events") for figure in known[part]]
    assert not any(figure["measured"] for figure in figures if figure["name"] in ("user", "a worker", "workers"))

    worker = installation.worker()
    await worker.ready()
    await installation.send(events(installation.topics, 500))
    await installation.applied()
    asked = asyncio.create_task(told(installation, "capacity", "--for", "4s", "--metrics", worker.address))
    seed = 10
    while not asked.done():
        await installation.send(events(installation.topics, 500, seed=seed))
        seed += 1
    code, known = asked.result()
    found = {figure["name"]: figure for part in ("memory of Redis", "events") for figure in known[part]}
    assert code == 0
    assert found["row"]["measured"]
    assert 100 < found["row"]["value"] < found["together"]["value"] < 8_000
    assert found["arriving"]["value"] > 100
    assert found["a worker"]["measured"]
    assert 1_000 < found["a worker"]["value"] < 1_000_000


async def test_capacity_says_which_metrics_cannot_be_read(installation: Installation) -> None:
    await installation.set_up()
    ended = await asyncio.to_thread(installation.run, "capacity", "--for", "0", "--metrics", "127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("No worker's metrics at http://127.0.0.1:1/metrics: ")
    ended = await asyncio.to_thread(installation.run, "capacity", "--users", "none")
    assert ended.returncode == 2
    assert "none is no whole number from 1 up" in ended.stderr


def _piped(installation: Installation, *command: str) -> subprocess.Popen[str]:
    """A command that goes on, its output to be read."""
    line = [sys.executable, "-m", "deploy.cli", *command]
    return subprocess.Popen(line, cwd=ROOT, env=installation.env, stdout=subprocess.PIPE, text=True)


def _with(installation: Installation, **env: str) -> Installation:
    installation.env = {**installation.env, **env}
    return installation
