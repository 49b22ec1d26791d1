"""What a training reads of the topics is all that they hold, whatever the client does first."""

import asyncio
import time
from pathlib import Path

import pytest

from model_server.training.recorded import record
from model_server.training.topics import read_topics
from schemas.items import Item, encode_item
from streams.features.declaration import DEFAULT
from streams.service import settings
from streams.settings import Tools
from tests.installation import Installation, Sent, events

TIMES = 25
"""Of which a third read nothing where the reader went to the beginning by a reset, not by an offset."""


@pytest.mark.timeout(180)
async def test_every_reading_begins_at_the_beginning(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    installation = Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)
    await installation.set_up()
    sent = events(installation.topics, 500)
    await installation.send(sent)
    connections = settings.read(Tools, installation.env).connections
    read = [await read_topics(connections, lambda _: lambda _: None) for _ in range(TIMES)]
    assert {len(found) for found, _ in read} == {len(sent)}


async def test_an_item_is_known_from_its_first_record_and_called_by_its_last(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    installation = Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)
    await installation.set_up()
    connections = settings.read(Tools, installation.env).connections

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
    _, catalogue = await read_topics(connections, lambda _: lambda _: None)
    assert first_ms <= catalogue["a"]["ts_ms"] < later_ms
    assert (catalogue["a"]["title"], catalogue["b"]) == ("green mug", {})
    again_ms = await told(b="blue rug")
    _, catalogue = await read_topics(connections, lambda _: lambda _: None)
    assert catalogue["b"]["ts_ms"] >= again_ms
    log = record([], catalogue, DEFAULT, "UTC")
    assert log.item_ids == ["a", "b", "c"]
    assert log.known_ms.tolist() == [catalogue[name]["ts_ms"] for name in log.item_ids]
