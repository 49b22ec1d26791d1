"""`kairos analyze` over topics: ours as the worker would judge them, a foreign one with the mapping it needs."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from streams.admin import administering, create_topics
from streams.topic_plan import PlannedTopic
from tests.installation import Installation, Sent, events

pytestmark = pytest.mark.slow


async def told(installation: Installation, *command: str) -> tuple[int, dict[str, Any]]:
    ended = await asyncio.to_thread(installation.run, "analyze", *command, "--json")
    assert "Traceback" not in ended.stderr
    return ended.returncode, orjson.loads(ended.stdout)


async def test_a_topic_of_ours_is_judged_as_the_worker_judges_it(installation: Installation) -> None:
    clicks = installation.topics.clicks
    good = [record for record in events(installation.topics, 2_000) if record.topic == clicks]
    await installation.send([*good, good[0], Sent(clicks, b"u1", b"{"), Sent(clicks, None, good[0].value)])

    code, known = await told(installation, clicks)

    assert code == 0
    assert (known["lines"], known["events"]) == (len(good) + 3, len(good) + 1)
    assert known["rejects"] == {"json": 1, "null key": 1}
    assert known["duplicates"] == {"by": "event_id", "n": 1, "exact": True}
    assert known["partitions"]["count"] == 4
    assert known["mapping"]["toml"] == ""
    code, known = await told(installation, clicks, "--newest", "10")
    assert known["lines"] == 40


async def test_a_foreign_topic_is_refused_with_the_mapping_that_it_would_need(installation: Installation) -> None:
    name = f"{installation.topics.prefix}shop-log"
    async with administering({"bootstrap_servers": installation.kafka}) as admin:
        await create_topics(admin, [PlannedTopic(name, 2, {"cleanup.policy": "delete"})], 1)
    rows = [
        {"customerId": f"c{n % 7}", "sku": f"s{n}", "action": ["view", "buy"][n % 2], "time": 1_700_000_000 + n}
        for n in range(60)
    ]
    await installation.send([Sent(name, row["customerId"].encode(), orjson.dumps(row)) for row in rows])  # type: ignore[attr-defined]

    code, known = await told(installation, name)

    assert code == 1
    assert known["rejects"] == {"missing": 60}
    assert 'user_id = "customerId"' in known["mapping"]["toml"]
    assert 'matches = "^buy$"' in known["mapping"]["toml"]
    assert known["mapping"]["notes"][-1].startswith("Write the topic to a file of JSON lines")


async def test_an_unknown_topic_names_the_nearest(installation: Installation) -> None:
    ended = await asyncio.to_thread(installation.run, "analyze", installation.topics.clicks[:-1])
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{installation.topics.clicks[:-1]} is neither a file here nor a topic of Kafka at ")
    assert ended.stderr.endswith(f"Did you mean {installation.topics.clicks}?\n")


async def test_without_kafka_a_topic_cannot_be_read(installation: Installation) -> None:
    installation.env["KAIROS_KAFKA"] = "127.0.0.1:1"
    ended = await asyncio.to_thread(installation.run, "analyze", "clicks")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Kafka at 127.0.0.1:1 does not answer: ")
