"""Two shops' real logs through Kafka, the worker and Valkey: the row of every user and item equals the slow oracle's.

At a reduced size by default; KAIROS_TEST_WHOLE_LOGS=1 takes every user.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from deploy.demo.children import Service, complete
from deploy.demo.producing import items_of, produce, producing
from deploy.demo.sources import moved
from deploy.demo.tables import Tables, until_applied
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.logs.logs import Log, of_users, read_log
from streams.logs.mapping import load
from streams.service import redis, settings
from streams.service.kafka import client_options
from streams.service.settings import Connections
from streams.testing import oracle

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LOGS = {
    "online-retail": ("online_retail_2009_2010.parquet", 300),
    "deskdrop": ("deskdrop_users_interactions.csv.zip", 500),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def a_log(name: str) -> Log:
    """The log with its users cut down and its events moved up to the present by whole weeks."""
    file, users = LOGS[name]
    if not (DATA / file).is_file():
        pytest.skip(f"{DATA / file} is absent: the real logs are not part of the repository")
    log = read_log(DATA / file, load(name))
    if os.environ.get("KAIROS_TEST_WHOLE_LOGS") != "1":
        log = of_users(log, users)
    return moved(log, time.time_ns() // 1_000_000)


@pytest.mark.parametrize("name", list(LOGS))
async def test_every_row_of_a_real_log_equals_the_oracle(
    name: str, kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    log = a_log(name)
    env = {
        "KAIROS_KAFKA": kafka,
        "KAIROS_REDIS": redis_url,
        "KAIROS_TOPIC_PREFIX": topic_prefix,
        "KAIROS_NAMESPACE": namespace,
        "KAIROS_GROUP": namespace,
        "KAIROS_ZONE": log.zone,
        "KAIROS_HORIZON_DAYS": "500",
    }
    layout = ["--partitions", "3", "--item-partitions", "2"]
    await complete("topics", ["topics", "create", *layout], folder=tmp_path, env=env)
    worker = Service.start("worker", ["worker"], folder=tmp_path, env=env).wait_ready()
    try:
        users, items = await rows_after(log, settings.read(Connections, env), worker)
    finally:
        print(worker.child.tail(40))  # shown when the test fails
        worker.stop()
    events = [orjson.loads(event.value) for event in log.events]
    assert_equal(oracle.user_rows(events, log.zone), users)
    assert_equal(oracle.item_rows(events, log.zone), items)


async def rows_after(
    log: Log, connections: Connections, worker: Service
) -> tuple[dict[str, np.void], dict[str, np.void]]:
    """Every row of users and of items once the whole log has gone through the worker."""
    client = redis.connect(connections)
    kafka, topics = client_options(connections), connections.topics
    try:
        async with (
            producing(connections) as producer,
            Tables.reading(kafka, client, topics, connections.keys) as tables,
        ):
            items = items_of(log.topic_items(), log.events[0].ts_ms)
            async for _ in produce(producer, topics, [*items, *log.events]):
                pass
            await until_applied(tables, None, lambda _done, _total: worker.must_run())
            assert await tables.records(topics.dead_letters) == 0
            layout = Layout(DEFAULT)
            users = {user: row async for user, row in tables.user_rows(layout, await tables.stored_users())}
            return users, {item: row async for item, row in tables.item_rows(ItemLayout(DEFAULT))}
    finally:
        await client.aclose()


def assert_equal(expected: dict[str, dict[str, Any]], rows: dict[str, np.void]) -> None:
    """Same names, and no row differs; of those that do, the first three are shown field by field."""
    assert expected.keys() == rows.keys()
    wrong = {name: differs for name in expected if (differs := oracle.difference(expected[name], rows[name]))}
    assert not wrong, f"{len(wrong)} of {len(rows)} rows differ: {dict(list(wrong.items())[:3])}"


@pytest.mark.parametrize(
    ("name", "lines", "events", "dropped"),
    [
        ("online-retail", 525_461, 408_969, {"duplicate": 6_865, "no user": 107_833, "not goods": 1_794}),
        ("deskdrop", 72_312, 72_301, {"duplicate": 11}),
    ],
)
def test_cleaning_of_a_real_log_is_counted(name: str, lines: int, events: int, dropped: dict[str, int]) -> None:
    file, _ = LOGS[name]
    if not (DATA / file).is_file():
        pytest.skip(f"{DATA / file} is absent: the real logs are not part of the repository")
    cleaning = read_log(DATA / file, load(name)).cleaning
    assert (cleaning.lines, cleaning.events, cleaning.dropped) == (lines, events, dropped)
