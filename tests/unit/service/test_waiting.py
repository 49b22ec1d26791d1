"""Waiting is readable while it lasts and over when the attempt succeeds."""

import asyncio
from contextlib import suppress

import pytest

from streams.service import waiting
from streams.service.waiting import Waiting


async def test_it_tries_again_until_it_works_and_says_why_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_S", 0.001)
    seen: list[dict[str, str]] = []
    things = Waiting()

    async def attempt() -> str:
        seen.append(dict(things.missing))
        if len(seen) < 4:
            raise ConnectionRefusedError("nobody listens")  # noqa: EM101
        return "connected"

    assert await things.until("redis", attempt) == "connected"
    assert seen[0] == {}
    assert "nobody listens (attempt 3" in seen[3]["redis"]
    assert things.missing == {}


async def test_what_waiting_cannot_cure_is_raised_at_once() -> None:
    async def attempt() -> None:
        raise ValueError("wrong password")  # noqa: EM101

    with pytest.raises(ValueError, match="wrong password"):
        await Waiting().until("redis", attempt)


async def test_it_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_S", 0.001)
    things, again = Waiting(), asyncio.Event()

    async def attempt() -> None:
        if things.missing:
            again.set()
        raise TimeoutError

    task = asyncio.create_task(things.until("kafka", attempt))
    await again.wait()
    assert things.missing["kafka"].startswith("TimeoutError")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_another_reason_is_another_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_S", 0.001)
    reasons = ["nobody listens", "nobody listens", "wrong password"]

    async def attempt() -> None:
        if reasons:
            raise OSError(reasons.pop(0))

    await Waiting().until("kafka", attempt)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["Waiting for kafka: nobody listens", "Waiting for kafka: wrong password"]


async def test_a_cancellation_that_the_attempt_swallowed_is_raised_after_it() -> None:
    async def deaf() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "an answer that came at the same time"

    task = asyncio.create_task(Waiting().until("Redis", deaf))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
