"""Worker processes on real Kafka and Valkey: what goes in is in the rows, once, whoever comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from deploy.stack import Broker, ValkeyCluster
from tests.installation import Installation, events
from tests.worker_process import until

pytestmark = pytest.mark.slow


async def test_rows_are_what_an_independent_fold_of_the_events_says(installation: Installation) -> None:
    await installation.send(events(installation.topics, 6_000))
    worker = installation.worker()
    await worker.ready()
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert await installation.wrong_items() == {}
    assert worker.metric("kairos_applied_records_total") >= 6_000
    assert worker.metric("kairos_redis_used_bytes") > 0
    assert worker.metric("kairos_redis_keys") > 0
    await installation.send(events(installation.topics, 500, seed=2))
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert worker.term() == 0
    assert "Traceback" not in worker.text


async def test_two_workers_share_and_hand_over_without_loss_or_double(installation: Installation) -> None:
    first = installation.worker()
    await first.ready()
    second = installation.worker()
    await second.ready()
    sending = [events(installation.topics, 1_500, seed=seed) for seed in range(6)]
    await installation.send(sending[0])
    await installation.applied()
    shares = [w.metric("kairos_assigned_partitions") for w in (first, second)]
    assert sum(shares) == 4 * 4 + 2 * 2
    assert min(shares) > 0
    await installation.send(sending[1])
    assert first.term() == 0
    await installation.send(sending[2])
    third = installation.worker()
    await installation.send(sending[3])
    await third.ready()
    second.kill()
    await installation.send(sending[4])
    await installation.applied()
    third.kill()
    await installation.send(sending[5])
    fourth = installation.worker()
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert await installation.wrong_items() == {}
    assert fourth.term() == 0


async def test_sides_can_run_in_processes_of_their_own(installation: Installation) -> None:
    users, items = installation.worker("--only", "users"), installation.worker("--only", "items")
    await asyncio.gather(users.ready(), items.ready())
    await installation.send(events(installation.topics, 2_000))
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert await installation.wrong_items() == {}
    assert users.metric("kairos_assigned_partitions") == 16
    assert items.metric("kairos_assigned_partitions") == 4


async def test_tables_may_live_in_a_cluster(
    kafka: str, make_cluster: Callable[..., ValkeyCluster], topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    installation = Installation(kafka, make_cluster().url, topic_prefix, namespace, tmp_path)
    try:
        assert (await installation.set_up())[0] == 0
        await installation.send(events(installation.topics, 2_000))
        worker = installation.worker()
        await worker.ready()
        await installation.applied()
        assert await installation.wrong_users() == {}
        assert await installation.wrong_items() == {}
        assert (await installation.set_up("check"))[0] == 0
        assert worker.term() == 0
    finally:
        installation.close()


async def test_kafka_may_ask_for_a_password(
    make_broker: Callable[..., Broker], redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_kairos='secret';"
    broker = make_broker(
        listeners={"SECURE": "SASL_PLAINTEXT"},
        config={
            "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": login,
        },
    )
    installation = Installation(broker.address, redis_url, topic_prefix, namespace, tmp_path)
    try:
        assert (await installation.set_up())[0] == 0
        await installation.send(events(installation.topics, 600))
        installation.env |= {
            "KAIROS_KAFKA": broker.addresses["SECURE"],
            "KAIROS_KAFKA_SECURITY": "SASL_PLAINTEXT",
            "KAIROS_KAFKA_SASL_MECHANISM": "PLAIN",
            "KAIROS_KAFKA_USERNAME": "kairos",
            "KAIROS_KAFKA_PASSWORD": "secret",
        }
        assert (await installation.set_up("check"))[0] == 0
        worker = installation.worker()
        await worker.ready()
        await installation.applied()
        assert await installation.wrong_users() == {}
        wrong = installation.worker(KAIROS_KAFKA_PASSWORD="guessed")
        await until(lambda: "KAIROS_KAFKA" in wrong.get("/ready")[1], 20, lambda: wrong.text, wrong)
        assert wrong.get("/ready")[0] == 503
    finally:
        installation.close()


async def test_inspect_shows_what_the_rows_say(installation: Installation) -> None:
    await installation.send(events(installation.topics, 1_500))
    worker = installation.worker()
    await worker.ready()
    await installation.applied()
    user = str(installation.events[0]["user_id"])
    mine = [event for event in installation.events if event["user_id"] == user]
    asked = await asyncio.to_thread(installation.run, "inspect", user, "--json")
    known = orjson.loads(asked.stdout)
    assert known["totals"]["click"] == sum(event["kind"] == "click" for event in mine)
    assert known["last_ms"] == max(int(event["ts_ms"]) for event in mine)
    assert known["windows"]["click"]["24h"] == known["totals"]["click"]
    assert {entry["item"] for entry in known["history"]} <= {event["item_id"] for event in mine}
    page = await asyncio.to_thread(installation.run, "inspect", user)
    assert page.returncode == 0
    assert f"user        {user}" in page.stdout
    nobody = await asyncio.to_thread(installation.run, "inspect", "nobody", "--json")
    assert nobody.returncode == 1
    assert "Nothing is known of user nobody" in nobody.stderr
    told = orjson.loads(nobody.stdout)
    assert (told["status"], told["error"]) == (1, nobody.stderr.strip())


async def test_a_rebuild_under_another_declaration_runs_beside_the_live_tables(installation: Installation) -> None:
    live = installation
    (folder := live.folder / "next").mkdir()
    rebuild = Installation(live.kafka, live.redis_url, live.topics.prefix, f"{live.keys.namespace}-next", folder)
    features = live.folder / "features.toml"
    features.write_text("[windows]\n2h = '2h'\n")
    rebuild.env |= {"KAIROS_FEATURES": str(features), "KAIROS_GROUP": live.env["KAIROS_GROUP"]}
    await live.send(events(live.topics, 2_000))
    assert (await rebuild.set_up())[0] == 0
    try:
        workers = [live.worker(), rebuild.worker()]
        await asyncio.gather(*(worker.ready() for worker in workers))
        await asyncio.gather(live.applied(), rebuild.applied())
        assert await live.wrong_users() == {}
        assert await live.wrong_items() == {}
        shown = rebuild.run("inspect", "--json", str(live.events[0]["user_id"]))
        assert '"2h"' in shown.stdout
        assert [worker.term() for worker in workers] == [0, 0]
    finally:
        rebuild.close()
