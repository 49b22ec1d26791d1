"""What a dead letter costs to put back: `kairos dead-letters redrive --execute` over 20,000 of them."""

import asyncio
import json
import os
import subprocess
import time
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.dead_letters import bury, encode
from tests.bench.check import WrongRowsError
from tests.bench.contender import ROOT, ContenderError
from tests.bench.figures import AT_MOST, Figure, figure
from tests.bench.installation import KAIROS, Installation
from tests.bench.lab import Lab

LETTERS = int(os.environ.get("BENCH_LETTERS", "20000"))
"""BENCH_LETTERS=1000 for a look whether it runs: the start of the command weighs more then."""


def dead_letter_figures(lab: Lab) -> list[Figure]:
    """Wall and CPU time a letter of the whole command, start-up and the reading of the plan included."""
    lab.say(f"{LETTERS:,} dead letters put back")
    installation = lab.installation()
    installation.create()
    asyncio.run(_lay(installation))
    spent = _redrive(installation)
    asyncio.run(_check(installation))
    again = _redrive(installation)
    how = f"the command over {LETTERS:,} letters of 4 partitions, start and plan included"
    return [
        figure("redrive_ms_per_letter", spent["wall_s"] * 1e3 / LETTERS, "ms", (AT_MOST, 1.0), f"wall clock of {how}"),
        figure("redrive_cpu_ms_per_letter", spent["cpu_s"] * 1e3 / LETTERS, "ms", (AT_MOST, 1.0), f"CPU of {how}"),
        figure(
            "redrive_survey_cpu_ms_per_letter",
            again["cpu_s"] * 1e3 / LETTERS,
            "ms",
            None,
            "CPU of the command once more, which finds all of them marked",
        ),
    ]


async def _lay(installation: Installation) -> None:
    """Letters whose records lay in a wrong partition, keyed as they came."""
    now_ms = time.time_ns() // 1_000_000
    producer = AIOKafkaProducer(bootstrap_servers=installation.kafka, linger_ms=5, max_batch_size=1 << 18)
    await producer.start()
    try:
        sent = []
        for i in range(LETTERS):
            event = {
                "user_id": f"u{i}",
                "item_id": f"i{i % 997}",
                "kind": "click",
                "ts_ms": now_ms - i,
                "dwell_ms": 900,
            }
            place: dict[str, Any] = {"topic": installation.topics.clicks, "partition": i % 4, "offset": i}
            detail = (
                "The key belongs to another partition; produce with murmur2 (librdkafka: partitioner=murmur2_random)."
            )
            contents: dict[str, Any] = {"key": f"u{i}".encode(), "value": orjson.dumps(event), "headers": []}
            letter = bury(**place, **contents, reason="partition", detail=detail, now_ms=now_ms)
            key, value, headers = encode(letter)
            sent.append(await producer.send(installation.topics.dead_letters, value, key, headers=headers))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def _redrive(installation: Installation) -> dict[str, float]:
    """CPU and wall seconds of one run of the command."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    command = [*KAIROS, "dead-letters", "redrive", "--execute", "--json"]
    began_s = time.monotonic()
    process = subprocess.Popen(command, env=clean | installation.env, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        message = f"kairos dead-letters redrive ended with {process.returncode}: {json.loads(said or '{}')}"
        raise ContenderError(message)
    return {"wall_s": time.monotonic() - began_s, "cpu_s": usage.ru_utime + usage.ru_stime}


async def _check(installation: Installation) -> None:
    """Every letter is back once. Raises WrongRowsError."""
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.kafka, isolation_level="read_committed")
    await consumer.start()
    try:
        tps = [TopicPartition(installation.topics.clicks, p) for p in range(installation.partitions)]
        ends, keys = await consumer.end_offsets(tps), list[bytes]()
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                keys += [record.key for record in records]
    finally:
        await consumer.stop()
    if sorted(keys) != sorted(f"u{i}".encode() for i in range(LETTERS)):
        message = f"{len(keys)} records are back, of {len(set(keys))} letters, not {LETTERS} once each"
        raise WrongRowsError(message)
