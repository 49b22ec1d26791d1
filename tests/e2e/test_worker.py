"""Worker processes on real Kafka and Valkey: what goes in is in the rows, once, whoever comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.installation import Installation, events

pytestmark = pytest.mark.slow


@pytest.fixture
async def installation(
    kafka: str, redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    made = Installation(kafka, redis_url, topic_prefix, namespace, tmp_path)
    assert (await made.set_up())[0] == 0
    yield made
    made.close()


async def test_rows_are_what_an_independent_fold_of_the_events_says(installation: Installation) -> None:
    await installation.send(events(installation.topics, 6_000))
    worker = installation.worker()
    await worker.ready()
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert await installation.wrong_items() == {}
    assert worker.metric("kairos_applied_records_total") >= 6_000
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
