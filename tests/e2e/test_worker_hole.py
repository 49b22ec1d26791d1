"""A log that lost records which the rows need: that partition stops alone, on whichever worker, until it is rebuilt."""

from __future__ import annotations

import asyncio
import signal

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from tests.installation import events
from tests.promoting import Promoted
from tests.worker_process import WorkerProcess, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LIVENESS_S = 8
Place = tuple[str, int]


@pytest.fixture
def shop(promoted: Promoted) -> Promoted:
    promoted.env["KAIROS_LIVENESS_S"] = str(LIVENESS_S)
    return promoted


async def cut(shop: Promoted, place: Place, below: int) -> None:
    """Retention removes the records of a partition below this offset."""
    client = AIOKafkaAdminClient(bootstrap_servers=shop.kafka)
    await client.start()
    try:
        await client.delete_records({TopicPartition(*place): RecordsToDelete(below)})
    finally:
        await client.close()


async def others_are_applied(shop: Promoted, *stopped: Place) -> None:
    """Wait until every record of the users' other partitions is in the rows."""
    behind: dict[Place, int] = {}
    for _ in range(200):
        ends, fences = await shop.ends(shop.topics.user_inputs), await shop.fences()
        behind = {p: end for p, end in ends.items() if p not in stopped and fences.get(p, -1) < end - 1}
        if not behind:
            return
        await asyncio.sleep(0.2)
    message = f"not applied: {behind}"
    raise AssertionError(message)


def stopped_by(worker: WorkerProcess) -> dict[str, str]:
    """What a worker says of its stopped partitions."""
    return dict(orjson.loads(worker.get("/ready")[1])["stopped"])


async def test_one_partition_stops_on_whichever_worker_and_the_others_go_on(shop: Promoted) -> None:
    first, clicks = shop.worker(), (shop.topics.clicks, 2)
    await shop.send(events(shop.topics, 1_500, seed=1))
    await first.ready()
    await shop.applied()
    assert first.term() == 0
    await shop.send(events(shop.topics, 1_500, seed=2))
    fence, end = (await shop.fences())[clicks], (await shop.ends([clicks[0]]))[clicks]
    assert fence < end - 20
    await cut(shop, clicks, end - 10)
    name = f"{clicks[0]}:{clicks[1]}"

    workers = [shop.worker(), shop.worker()]
    await asyncio.gather(*[worker.ready() for worker in workers])
    await others_are_applied(shop, clicks)
    await until(lambda: sum(bool(stopped_by(worker)) for worker in workers) == 1, 20, lambda: workers[0].text)
    await asyncio.gather(*[worker.ready() for worker in workers])  # a hole is no reason to be unready
    holder, other = sorted(workers, key=lambda worker: not stopped_by(worker))
    assert stopped_by(holder).keys() == {name}
    assert f"needed from offset {fence + 1}" in stopped_by(holder)[name]
    assert "kairos replay --mode rebuild" in stopped_by(holder)[name]
    assert (holder.metric("kairos_stopped_partitions"), other.metric("kairos_stopped_partitions")) == (1, 0)

    # Whoever takes it over stops it too, and lives on for longer than a standstill may last.
    holder.kill()
    await until(lambda: name in other.get("/ready")[1], 30, lambda: other.text, other)
    await other.ready()
    await shop.send(events(shop.topics, 500, seed=3))
    await others_are_applied(shop, clicks)
    await asyncio.sleep(LIVENESS_S + 3)
    assert stopped_by(other).keys() == {name}
    assert other.text.count("stands still, alone") >= 1
    assert (await shop.fences())[clicks] == fence

    told_by_the_verbs(shop, clicks, fence)
    await the_remedy_helps(shop, other)
    assert other.term() == 0


def told_by_the_verbs(shop: Promoted, place: Place, fence: int) -> None:
    """`kairos lag` and `kairos doctor` name the partition and end with 1."""
    name = f"{place[0]}:{place[1]}"
    lag, doctor = shop.run("lag", "--json"), shop.run("doctor")
    assert lag.returncode == doctor.returncode == 1
    known = orjson.loads(lag.stdout)
    assert [(p["topic"], p["partition"]) for p in known["partitions"] if p["stopped"]] == [place]
    assert any(f"{name} stands still, alone" in said for said in known["troubles"])
    assert f"{name} is needed from offset {fence + 1}" in doctor.stdout


async def the_remedy_helps(shop: Promoted, worker: WorkerProcess) -> None:
    """Rebuild and promote, as the sentence says: the rows are those of what the topics still hold."""
    rebuilt = await asyncio.to_thread(shop.run, "replay", "--mode", "rebuild", "--into", shop.run_name, "--execute")
    assert rebuilt.returncode == 0, rebuilt.stderr
    await shop.promote(shop.run_name, "--execute")
    await until(lambda: shop.run_name in worker.get("/ready")[1], 40, lambda: worker.text, worker)
    await worker.ready()
    await shop.send(events(shop.topics, 300, seed=4))
    shop.look_at(shop.run_name)
    shop.events = [orjson.loads(r.value) for topic in shop.topics.user_inputs for r in await shop.read(topic)]
    await shop.applied()
    assert await shop.wrong_users() == {}
    assert await shop.wrong_items() == {}
    assert stopped_by(worker) == {}
    assert worker.metric("kairos_stopped_partitions") == 0


async def test_a_log_cut_under_a_lagging_worker_stops_that_partition_and_not_the_worker(shop: Promoted) -> None:
    worker, orders = shop.worker(), (shop.topics.orders, 1)
    await shop.send(events(shop.topics, 800, seed=1))
    await worker.ready()
    await shop.applied()
    fence = (await shop.fences())[orders]
    worker.process.send_signal(signal.SIGSTOP)
    await shop.send(events(shop.topics, 1_500, seed=2))
    end = (await shop.ends([orders[0]]))[orders]
    assert fence < end - 20
    await cut(shop, orders, end - 5)
    worker.process.send_signal(signal.SIGCONT)
    await until(lambda: "stands still, alone" in worker.text, 40, lambda: worker.text, worker)
    await others_are_applied(shop, orders)
    await worker.ready()
    assert stopped_by(worker).keys() == {f"{orders[0]}:{orders[1]}"}
    assert (await shop.fences())[orders] >= fence
    assert worker.term() == 0


async def test_markers_of_transactions_that_retention_has_taken_are_no_hole(shop: Promoted) -> None:
    worker, sent = shop.worker(), events(shop.topics, 400)
    await worker.ready()
    producer = AIOKafkaProducer(bootstrap_servers=shop.kafka, transactional_id=f"t-{shop.name}")
    await producer.start()
    async with producer.transaction():
        for record in sent:
            await producer.send(record.topic, record.value, record.key)
    await producer.stop()
    shop.events += [record.event for record in sent if record.event is not None]
    await shop.applied()  # to the last marker, after a while
    assert worker.term() == 0
    for place, end in (await shop.ends(shop.topics.user_inputs)).items():
        await cut(shop, place, end)
    again = shop.worker()
    await shop.send(events(shop.topics, 200, seed=2))
    await again.ready()
    await shop.applied()
    assert stopped_by(again) == {}
    assert await shop.wrong_users() == {}
    assert again.term() == 0
