"""Which trouble with Redis is ridden out, and which is raised at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from streams.service.trouble import clause, passes, said
from streams.tables.errors import Broken, Stale
from streams.tables.weather import Weather

AWAY = exceptions.ConnectionError("away")


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("Connection closed by server."),
        exceptions.TimeoutError("Timeout reading from socket"),
        exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.ClusterDownError("The cluster is down"),
        exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
        exceptions.MasterDownError("Link with MASTER is down"),
        exceptions.RedisClusterException("Redis Cluster cannot be connected."),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
        exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
        exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
        exceptions.ResponseError("Command # 2 (SET u7 x) of pipeline caused error: BUSY Redis is busy."),
        exceptions.ResponseError("Command # 33 (SET u7 x) of pipeline caused error: ('BUSY Redis is busy.',)"),
        exceptions.ResponseError("Attempted to access a non local key in a cluster node script: on @user_script: 3"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
    ],
    ids=lambda error: f"{type(error).__name__}: {str(error)[:12]}",
)
def test_what_passes_is_ridden_out(error: Exception) -> None:
    assert passes(error)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
        exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"),
        exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        exceptions.ResponseError("unknown command 'EVALSHA'"),
        exceptions.DataError("Invalid input of type"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[:9],
)
async def test_what_cannot_pass_is_raised_at_once(error: Exception) -> None:
    async def attempt() -> None:
        raise error

    with pytest.raises(Broken, match="applying"):
        await Weather().ride("applying", attempt)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.AuthenticationError("Authentication required."), "Authentication required"),
        (exceptions.NoPermissionError("no permissions ..."), "no permissions"),
        (TimeoutError(), "TimeoutError"),
        (
            MasterNotFoundError("No master found for 'x' : <redis.asyncio.client.Redis(...)> - auth"),
            "No master found for 'x'",
        ),
    ],
)
async def test_what_redis_says_is_part_of_a_sentence_with_one_stop(error: Exception, said: str) -> None:
    async def attempt() -> None:
        raise error

    assert clause(error) == said
    if not passes(error):
        with pytest.raises(Broken, match=f"go on to: {said}. Check KAIROS_REDIS"):
            await Weather().ride("applying", attempt)


async def test_trouble_is_shown_while_it_lasts_and_counted() -> None:
    weather = Weather(first_pause_s=0.0001, longest_pause_s=0.0002)
    shown: list[str | None] = []

    async def attempt() -> int:
        shown.append(weather.trouble)
        if len(shown) < 4:
            raise AWAY
        return 7

    assert await weather.ride("reading", attempt) == 7
    assert shown == [None, *["reading: ConnectionError: away"] * 3]
    assert weather.trouble is None
    assert weather.errors == 3


async def test_nobody_is_waited_for_who_is_not_wanted() -> None:
    async def attempt() -> None:
        raise AWAY

    answers = iter([False, False, True])
    with pytest.raises(Stale):
        await Weather(first_pause_s=0.0001).ride("reading", attempt, lambda: next(answers))


async def test_a_cancellation_that_the_call_swallowed_is_raised_after_it() -> None:
    began = asyncio.Event()

    async def attempt() -> str:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "answered"

    riding = asyncio.create_task(Weather().ride("asking", attempt))
    await began.wait()
    riding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await riding


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Connection closed by server.", "Connection closed by server."),
        ("Command # 3 (MGET {kairos:main:1}:u:u34) of pipeline caused error: ('Connection closed by server.',)",
         "Connection closed by server."),
        ("Command # 1 (GET a\nb) (c)) of pipeline caused error: OOM command not allowed", "OOM command not allowed"),
        ("Command # 1 (GET u7) of pipeline caused error: (111, 'Connect call failed')", "(111, 'Connect call failed')"),
        ("Command # 1 (GET u7) of pipeline caused error: (\"it's gone\",)", "it's gone"),
    ],
)  # fmt: skip
def test_what_was_asked_of_whom_is_not_told(text: str, wanted: str) -> None:
    assert said(exceptions.ConnectionError(text)) == wanted
