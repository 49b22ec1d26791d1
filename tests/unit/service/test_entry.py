"""While Kafka is away somebody looks why, and says it once."""

import asyncio
import contextlib
import logging
from typing import Literal

import pytest

from streams.service import entry
from streams.service.entry import Doorkeeper
from streams.service.settings import Connections


async def test_the_reason_is_looked_for_while_kafka_is_away_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entry, "WATCH_EVERY_S", 0.01)
    away = True
    doorkeeper = Doorkeeper(Connections(kafka="127.0.0.1:1"), lambda: away)
    watching = asyncio.create_task(doorkeeper.watch())
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(0.3)
    assert doorkeeper.why.startswith("Nothing listens where Kafka at 127.0.0.1:1 should be")
    assert [record.message for record in caplog.records].count(doorkeeper.why) == 1
    away = False
    await asyncio.sleep(0.1)
    assert doorkeeper.why == ""
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


@pytest.mark.parametrize("security", ["PLAINTEXT", "SSL"])
async def test_a_broker_that_says_nothing_is_told_from_one_that_wants_a_login(
    security: Literal["PLAINTEXT", "SSL"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "ANSWER_WITHIN_S", 0.2)
    writers = []

    async def freeze(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await asyncio.sleep(5)

    async with await asyncio.start_server(freeze, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        why = await entry.why_not(Connections(kafka=address, kafka_security=security))
        for writer in writers:
            writer.transport.abort()
    assert why.startswith(f"Kafka at {address} does not answer within 0.2 s")


async def test_a_port_of_something_else_is_told_from_a_broker() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        why = await entry.why_not(Connections(kafka=f"127.0.0.1:{port}"))
    assert why.startswith(f"Kafka at 127.0.0.1:{port} ")
    assert "KAIROS_KAFKA" in why
