"""A worker before a topic full of what it cannot use: it stops without a flood, and goes on when it is told to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from schemas.dead_letters import decode
from schemas.partition import partition_of
from tests.installation import Installation, Sent, events
from tests.worker_process import until

pytestmark = pytest.mark.slow

REFUSED, MOST = 78, 500
STRAY = next(f"stray{i}" for i in range(99) if partition_of(b"stray%d" % i, 4) != 2)


async def stopped(installation: Installation, **env: str) -> str:
    """Start a worker that has to refuse to go on; its log."""
    worker = installation.worker(**env)
    await until(lambda: worker.process.poll() is not None, 60, lambda: worker.text[-3000:])
    assert worker.process.returncode == REFUSED, worker.text[-3000:]
    return worker.text


async def letters(installation: Installation) -> set[tuple[int, int]]:
    """Partition and offset of what the letters are about; each of them once."""
    records = await installation.read(installation.topics.dead_letters)
    found = [decode(r.key, r.value, r.headers) for r in records if dict(r.headers).get("kairos-reason")]
    places = [(letter.partition, letter.offset) for letter in found]
    assert len(set(places)) == len(places)
    return set(places)


def strays(n: int) -> list[dict[str, Any]]:
    """Events of a user whose home is not partition 2."""
    now_ms = time.time_ns() // 1_000_000
    told = {"user_id": STRAY, "item_id": "i1", "kind": "click"}
    return [{**told, "ts_ms": now_ms - 60_000 + i} for i in range(n)]


async def flood(installation: Installation, events: Sequence[Mapping[str, Any]]) -> None:
    """Send events to partition 2, where they do not belong."""
    wrong = [Sent(installation.topics.clicks, STRAY.encode(), orjson.dumps(event)) for event in events]
    await installation.send(wrong, partition=2)


async def test_it_stops_before_a_flood_and_again_at_every_start(installation: Installation) -> None:
    clicks = installation.topics.clicks
    await installation.send(events(installation.topics, 300))
    await flood(installation, strays(1500))
    text = await stopped(installation)
    for told in (f"{clicks}:2 stops at offsets", 'reason "partition"', "murmur2_random", "KAIROS_BREAKER_SHARE=1"):
        assert told in text
    assert "Traceback" not in text, text
    sent, fence = await letters(installation), (await installation.fences())[clicks, 2]
    assert 0 < len(sent) <= MOST
    assert {partition for partition, _ in sent} == {2}
    assert max(offset for _, offset in sent) <= fence

    for _ in range(2):
        assert f"{clicks}:2 stops at offsets {fence + 1} to" in await stopped(installation)
    assert await letters(installation) == sent
    assert (await installation.fences())[clicks, 2] == fence

    await stopped(installation, KAIROS_CHUNK="7")  # of smaller steps a few more fit below the limit
    assert sent <= await letters(installation)
    assert len(await letters(installation)) <= MOST


async def test_nothing_is_put_back_before_an_open_breaker_and_all_of_it_after(installation: Installation) -> None:
    clicks, wrong = installation.topics.clicks, strays(1200)
    await installation.send(events(installation.topics, 300))
    await flood(installation, wrong)
    await stopped(installation)
    refused = installation.run("dead-letters", "redrive", "--execute")
    assert refused.returncode == REFUSED
    assert f"The breaker of {clicks}:2 is open" in refused.stderr
    assert "Nothing was put back" in refused.stderr
    assert f"The breaker of {clicks}:2 is open" in installation.run("dead-letters", "redrive").stdout

    worker = installation.worker(KAIROS_BREAKER_SHARE="1")
    await worker.ready()
    await installation.applied()
    assert worker.metric("kairos_dead_letter_share") == 1.0
    assert len(await letters(installation)) == len(wrong)
    assert await installation.wrong_users() == {}

    put_back = installation.run("dead-letters", "redrive", "--execute", "--json")
    assert orjson.loads(put_back.stdout)["redriven"] == len(wrong), put_back.stderr
    installation.events += wrong
    await _equal(installation, 60)
    assert worker.term() == 0


async def _equal(installation: Installation, timeout_s: float) -> None:
    """Wait until every row is what the events say; the ends of transactions are offsets that no fence reaches."""
    wrong, deadline_s = {"": "not looked at"}, time.monotonic() + timeout_s
    while wrong and time.monotonic() < deadline_s:
        wrong = await installation.wrong_users()
    assert wrong == {}


async def test_few_bad_records_in_a_young_topic_stop_nobody(installation: Installation) -> None:
    await installation.send([Sent(installation.topics.clicks, b"u1", b"{") for _ in range(30)])
    worker = installation.worker()
    await worker.ready()
    await installation.applied()
    assert len(await letters(installation)) == 30
    assert worker.term() == 0


async def test_a_spoilt_catalogue_stops_the_side_of_items_too(installation: Installation) -> None:
    await installation.send([Sent(installation.topics.items, b"i1", b"{") for _ in range(40)])
    text = await stopped(installation, KAIROS_BREAKER_RECORDS="20")
    assert f"{installation.topics.items}:{partition_of(b'i1', 2)} stops at offsets 0 to 39" in text
    assert await letters(installation) == set()


async def test_settings_out_of_range_are_named(installation: Installation) -> None:
    text = await stopped(installation, KAIROS_BREAKER_SHARE="1.5", KAIROS_BREAKER_RECORDS="0")
    assert "KAIROS_BREAKER_SHARE=1.5 must be 0 to 1" in text
    assert "KAIROS_BREAKER_RECORDS=0 must be 1 to 100000" in text
