"""`kairos replay` on real servers: a rebuild equals the live rows bit for bit, whoever is killed when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.installation import Installation, Sent, events

pytestmark = pytest.mark.slow


@pytest.fixture
async def live(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    """An installation with a live worker that has applied events of all kinds, a catalogue and what is no event."""
    made = Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)
    await made.set_up()
    items = [
        Sent(made.topics.items, f"i{n}".encode(), orjson.dumps({"item_id": f"i{n}", "title": f"item {n}"}))
        for n in range(40)
    ]
    await made.send([*events(made.topics, 4000), *items, Sent(made.topics.clicks, b"u1", b"no event")])
    made.worker()
    await made.applied()
    yield made
    made.close()


async def test_a_rebuild_equals_the_live_rows_bit_for_bit(live: Installation) -> None:
    done = await asyncio.to_thread(live.run, "replay", "--into", "again", "--execute", "--json")
    assert done.returncode == 0, done.stderr
    print(done.stdout)
