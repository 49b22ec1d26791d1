"""What a training reads of the topics is all that they hold, whatever the client does first and whoever reads."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from model_server.training.recorded import Recorded, record
from model_server.training.topics import Reading, read_topics
from schemas.items import Item, encode_item
from streams.features.declaration import DEFAULT
from streams.service import settings
from streams.settings import Tools
from tests.installation import Installation, Sent, events

TIMES = 25
"""Of which a third read nothing where the reader went to the beginning by a reset, not by an offset."""


def reading(installation: Installation, shards: Path | None = None, readers: int = 0, shard: int = 200) -> Reading:
    connections = settings.read(Tools, installation.env).connections
    return Reading(connections, DEFAULT, "UTC", shards, readers, shard)


def quietly(_: int) -> Callable[[int], object]:
    return lambda _: None


async def log_of(wanted: Reading, told: list[int] | None = None) -> Recorded:
    """The log, and in `told` how many records were to be read and how many of them were ticked."""
    told = [] if told is None else told

    def begin(total: int) -> Callable[[int], object]:
        told.extend((total, 0))

        def tick(records: int) -> None:
            told[-1] += records

        return tick

    return (await read_topics(wanted, begin)).recorded


def same(one: Recorded, other: Recorded) -> None:
    """Equal, event by event and in their order."""
    assert (one.user_ids, one.item_ids, one.rejected) == (other.user_ids, other.item_ids, other.rejected)
    np.testing.assert_array_equal(one.user, other.user)
    np.testing.assert_array_equal(one.item, other.item)
    for name, column in one.columns._asdict().items():
        np.testing.assert_array_equal(column, getattr(other.columns, name), err_msg=name)


@pytest.fixture
def installation(kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path) -> Installation:
    return Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)


@pytest.mark.timeout(180)
async def test_every_reading_begins_at_the_beginning(installation: Installation) -> None:
    await installation.set_up()
    sent = events(installation.topics, 500)
    await installation.send(sent)
    read = [await log_of(reading(installation)) for _ in range(TIMES)]
    assert {len(found) + found.rejected for found in read} == {len(sent)}


@pytest.mark.timeout(120)
async def test_shards_hold_the_log_that_one_process_reads_and_only_what_is_new_is_read_again(
    installation: Installation, tmp_path: Path
) -> None:
    await installation.set_up()
    await installation.send(events(installation.topics, 1_500))
    folder = tmp_path / "shards"
    told: list[int] = []
    alone, shared = await log_of(reading(installation)), await log_of(reading(installation, folder, 2), told)
    same(alone, shared)
    first = {path.name for path in folder.glob("*.parquet")}
    assert len(first) > 4  # more than one a partition of a topic
    assert told == [1_500, 1_500]

    await installation.send(events(installation.topics, 300, seed=2))
    told.clear()
    again = await log_of(reading(installation, folder, 1, shard=1_000), told)
    assert told == [300, 300]
    assert first < {path.name for path in folder.glob("*")}
    same(await log_of(reading(installation)), again)


@pytest.mark.timeout(120)
async def test_an_interrupted_reading_ends_soon_and_keeps_the_shards_that_are_whole(
    installation: Installation, tmp_path: Path
) -> None:
    await installation.set_up()
    await installation.send(events(installation.topics, 1_500))
    folder, some = tmp_path / "shards", Event()
    wanted = reading(installation, folder, 1, shard=20)
    running = asyncio.create_task(read_topics(wanted, lambda _: lambda _: some.set()))
    await asyncio.to_thread(some.wait)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    written = len([*folder.glob("*.parquet")])
    assert 0 < written < 40
    told: list[int] = []
    same(await log_of(reading(installation)), await log_of(wanted, told))
    assert 0 < told[0] < 1_500


@pytest.mark.timeout(120)
async def test_shards_of_a_topic_that_was_created_again_are_another_log(
    installation: Installation, tmp_path: Path
) -> None:
    await installation.set_up()
    await installation.send(events(installation.topics, 400))
    await log_of(reading(installation, tmp_path / "shards", 1))
    admin = AIOKafkaAdminClient(bootstrap_servers=installation.kafka)
    await admin.start()
    await admin.delete_topics([installation.topics.clicks])
    await admin.close()
    await asyncio.sleep(1)
    await installation.set_up()
    await installation.send(events(installation.topics, 400, seed=3))
    same(await log_of(reading(installation)), await log_of(reading(installation, tmp_path / "shards", 1)))


async def test_what_was_aborted_never_happened(installation: Installation) -> None:
    await installation.set_up()
    kept, gone = events(installation.topics, 60), events(installation.topics, 60, seed=4)
    await installation.send(kept)
    producer = AIOKafkaProducer(bootstrap_servers=installation.kafka, transactional_id=installation.keys.namespace)
    await producer.start()
    try:
        await producer.begin_transaction()
        for sent in gone:
            await producer.send_and_wait(sent.topic, sent.value, sent.key)
        await producer.abort_transaction()
    finally:
        await producer.stop()
    found = await log_of(reading(installation))
    assert len(found) + found.rejected == len(kept)


@pytest.mark.timeout(120)
async def test_nothing_is_learned_from_people_who_were_erased(installation: Installation, tmp_path: Path) -> None:
    await installation.set_up()
    await installation.send(events(installation.topics, 400))
    everybody = await log_of(reading(installation))
    name = everybody.user_ids[0]
    theirs = int((everybody.user == 0).sum())
    assert installation.run("erase", name, "--execute", "--for-ever").returncode in (0, 1)
    for wanted in (reading(installation), reading(installation, tmp_path / "shards", 1)):
        read = await read_topics(wanted, quietly)
        assert (read.left_out, len(read.recorded)) == (theirs, len(everybody) - theirs)
        assert read.recorded.user_ids == everybody.user_ids[1:]


async def test_where_redis_does_not_say_who_was_erased_nothing_is_read(installation: Installation) -> None:
    await installation.set_up()
    installation.env["KAIROS_REDIS"] = "redis://127.0.0.1:1/0"
    with pytest.raises(OSError, match=r"who was erased .*--with-erased learns from everybody"):
        await log_of(reading(installation))
    everybody = reading(installation)
    assert len(await log_of(Reading(everybody.connections, DEFAULT, "UTC", heed_erased=False))) == 0


async def test_an_item_is_known_from_its_first_record_and_called_by_its_last(installation: Installation) -> None:
    await installation.set_up()

    async def told(**titles: str | None) -> int:
        """Send them, and when."""
        before_ms = time.time_ns() // 1_000_000
        records = [
            Sent(
                installation.topics.items,
                name.encode(),
                None if title is None else encode_item(Item(name, title=title)),
            )
            for name, title in titles.items()
        ]
        await installation.send(records)
        await asyncio.sleep(0.01)
        return before_ms

    first_ms = await told(a="red mug", b="blue rug", c="old clock")
    later_ms = await told(a="green mug", b=None)
    log = await log_of(reading(installation))
    assert (log.item_ids, log.titles) == (["a", "c"], ["green mug", "old clock"])
    assert first_ms <= log.listed_ms[0] < later_ms
    again_ms = await told(b="blue rug")
    log = await log_of(reading(installation))
    assert log.item_ids == ["a", "b", "c"]
    assert log.listed_ms[1] >= again_ms
    assert log.known_ms.tolist() == log.listed_ms.tolist()
    assert record([], {}, DEFAULT, "UTC").item_ids == []
