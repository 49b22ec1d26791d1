"""The decision in force at a moment, found in a long log by the time of its records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from model_server.decision_log import DecisionLog, DecisionRecord, DecisionsAt, reading
from model_server.why import why
from schemas.decisions import Decision, Step, encode
from schemas.recommendations import Versions
from schemas.topics import Topics
from streams.service import settings
from streams.service.settings import Connections
from streams.service.verb import Telling

BEGAN_MS = 1_760_000_000_000
HOUR_MS = 3_600_000
LATE_MS = 700
"""How long after a decision its record is written."""
OTHERS = 20


def decision(user: str, ts_ms: int) -> Decision:
    return Decision(
        decision_id=f"{user}-{ts_ms}", user=user, ts_ms=ts_ms, outcome="held",
        steps=[Step("contact", "minimum_gap", passed=False, value=60.0, threshold=14_400.0)],
        versions=Versions("m1", "f1", "p1"), waited_ms={}, mode="live", run_id="r1",
    )  # fmt: skip


@pytest.fixture
async def connections(kafka: str, topic_prefix: str) -> Connections:
    """A topic with a decision about u1 every hour for a hundred hours, and OTHERS about others between any two."""
    env = {"KAIROS_KAFKA": kafka, "KAIROS_TOPIC_PREFIX": topic_prefix}
    topic = Topics(topic_prefix).decisions
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=5)
    await producer.start()
    sent = []
    for hour in range(100):
        for i, user in enumerate(["u1", *[f"o{i}" for i in range(OTHERS)]]):
            ts_ms = BEGAN_MS + hour * HOUR_MS + i * 1000
            key, value, headers = encode(decision(user, ts_ms), "/kairos")
            sent.append(await producer.send(topic, value, key, headers=headers, timestamp_ms=ts_ms + LATE_MS))
    await asyncio.gather(*sent)
    await producer.stop()
    return settings.read(Connections, env)


class Counting(DecisionLog):
    """A log that tells how much of it was read."""

    read = 0

    async def _between(self, start: int, end: int) -> list[DecisionRecord]:
        self.read += end - start
        return await super()._between(start, end)


async def asked(connections: Connections, at_ms: int, user: str = "u1") -> tuple[DecisionsAt, int]:
    async with reading(connections, user) as log:
        log.__class__ = Counting
        found = await log.in_force(at_ms)
        return found, log.read  # type: ignore[attr-defined]


def hours(found: DecisionsAt) -> list[int | None]:
    return [None if each is None else (each.decision.ts_ms - BEGAN_MS) // HOUR_MS for each in found]


async def test_the_newest_at_a_moment_or_before_it_and_the_next(connections: Connections) -> None:
    for at_ms, wanted in (
        (BEGAN_MS + 50 * HOUR_MS + 1_800_000, [50, 51]),
        (BEGAN_MS + 50 * HOUR_MS, [50, 51]),  # decided by then, though its record was written a little later
        (BEGAN_MS + 50 * HOUR_MS - 1, [49, 50]),
        (BEGAN_MS + 50 * HOUR_MS + LATE_MS, [50, 51]),
        (BEGAN_MS - 1, [None, 0]),
        (BEGAN_MS + 1000 * HOUR_MS, [99, None]),
    ):
        found, _ = await asked(connections, at_ms)
        assert hours(found) == wanted, at_ms


async def test_little_of_the_log_is_read(connections: Connections) -> None:
    _, read = await asked(connections, BEGAN_MS + 50 * HOUR_MS + 1_800_000)
    assert read <= 1000 < 100 * (OTHERS + 1)


async def test_a_user_without_decisions_has_none_in_force(connections: Connections) -> None:
    found, _ = await asked(connections, BEGAN_MS + 5 * HOUR_MS, "nobody")
    assert found == DecisionsAt(None, None)


async def test_people_and_programs_are_told(connections: Connections, capsys: pytest.CaptureFixture[str]) -> None:
    async def tell(at_ms: int, *, as_json: bool = False) -> tuple[int, str, str]:
        code = await why(connections, "u1", Telling(as_json=as_json), newest=3, at_ms=at_ms)
        return code, *capsys.readouterr()

    code, page, _ = await tell(BEGAN_MS + HOUR_MS)
    assert (code, page.count("held"), "minimum_gap" in page) == (0, 2, True)
    assert page.startswith("In force at 2025-10-09 09:53:20 UTC:")
    assert "The next decision:" in page
    assert "No decision has followed." in (await tell(BEGAN_MS + 1000 * HOUR_MS))[1]
    code, page, complained = await tell(BEGAN_MS - 1)
    assert (code, complained.startswith("No decision about user u1 at 2025-10-09 08:53:19 UTC or before")) == (1, True)
    assert "The next decision:" in page
    code, line, _ = await tell(BEGAN_MS + HOUR_MS, as_json=True)
    said: dict[str, Any] = orjson.loads(line)
    assert (code, said["in_force"]["ts_ms"], said["next"]["ts_ms"]) == (0, BEGAN_MS + HOUR_MS, BEGAN_MS + 2 * HOUR_MS)
    assert orjson.loads((await tell(BEGAN_MS - 1, as_json=True))[1])["in_force"] is None


def test_a_time_that_is_none_is_told_when_it_is_typed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_server import cli

    why_command: Callable[[list[str]], int] = cli.why
    with pytest.raises(SystemExit) as ended:
        why_command(["u1", "--at", "noon"])
    assert ended.value.code == 2
    assert "give a time like 2026-03-01T08:30" in capsys.readouterr().err
