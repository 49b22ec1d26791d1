"""`kairos dead-letters` on a real broker: every letter goes back once, whoever is killed when."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.dead_letters import DeadLetter, bury, decode, encode
from schemas.encoding import Headers
from schemas.partition import partition_of
from tests.installation import Installation, Reader
from tests.worker_process import ROOT

pytestmark = pytest.mark.slow

NOW_MS = time.time_ns() // 1_000_000
DAY_AGO_MS = NOW_MS - 86_400_000


def letter(installation: Installation, i: int, **changes: Any) -> DeadLetter:
    """A letter about record `i` of a producer that spread users over partitions as it liked."""
    record: dict[str, Any] = {
        "topic": installation.topics.clicks, "partition": i % 4, "offset": i, "key": b"u%d" % i,
        "value": orjson.dumps({"user_id": f"u{i}", "item_id": "i1", "kind": "click", "ts_ms": NOW_MS - 60_000 + i}),
        "headers": [("trace", b"%d" % i)], "reason": "partition", "detail": f"The key of {i} belongs elsewhere.",
        "now_ms": DAY_AGO_MS,
    }  # fmt: skip
    return bury(**{**record, **changes})


async def lay(installation: Installation, letters: Sequence[DeadLetter]) -> None:
    """Put letters into their topic, keyed as they came."""
    producer = AIOKafkaProducer(bootstrap_servers=installation.kafka, linger_ms=5, max_request_size=4 << 20)
    await producer.start()
    try:
        topic, records = installation.topics.dead_letters, map(encode, letters)
        await asyncio.gather(*[await producer.send(topic, value, key, headers=told) for key, value, told in records])
    finally:
        await producer.stop()


async def committed(installation: Installation, topic: str) -> list[Any]:
    """Every record of a topic as a reader of committed transactions sees it, open ones ended by then."""
    ends = await installation.ends([topic])
    consumer = AIOKafkaConsumer(
        bootstrap_servers=installation.kafka, enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        tps = [TopicPartition(*tp) for tp in ends]
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        records: list[Any] = []
        while any([await consumer.position(tp) < ends[tp.topic, tp.partition] for tp in tps]):
            for found in (await consumer.getmany(timeout_ms=200)).values():
                records += found
        return records
    finally:
        await consumer.stop()


def told(installation: Installation, *command: str, status: int = 0) -> dict[str, Any]:
    """What a verb says to programs."""
    ended = installation.run("dead-letters", *command, "--json")
    assert ended.returncode == status, ended.stderr
    said: dict[str, Any] = orjson.loads(ended.stdout or ended.stderr)
    return said


def start(installation: Installation, *options: str) -> subprocess.Popen[bytes]:
    """A redrive as a process of its own."""
    line = [sys.executable, "-m", "deploy.cli", "dead-letters", "redrive", "--execute", *options]
    return subprocess.Popen(line, cwd=ROOT, env=installation.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def sent(installation: Installation, n: int, run: subprocess.Popen[bytes]) -> None:
    """Wait until so many records lie in the topic of clicks, committed or not, or the run is over."""
    clicks = installation.topics.clicks
    async with Reader(installation.kafka) as consumer:
        tps = [TopicPartition(clicks, partition) for partition in range(4)]
        while run.poll() is None and sum((await consumer.end_offsets(tps)).values()) < n:
            pass


async def test_letters_go_back_to_where_their_key_belongs_with_their_history(installation: Installation) -> None:
    await lay(installation, [letter(installation, i) for i in range(20)])
    plan = told(installation, "redrive")
    assert (plan["executed"], plan["plan"]["letters"]) == (False, 20)
    assert await committed(installation, installation.topics.clicks) == []

    assert told(installation, "redrive", "--execute")["redriven"] == 20
    back = await committed(installation, installation.topics.clicks)
    assert Counter(record.key for record in back) == Counter(b"u%d" % i for i in range(20))
    assert all(record.partition == partition_of(record.key, 4) for record in back)
    first = {record.key: dict(record.headers) for record in back}[b"u7"]
    assert first == {
        "trace": b"7",
        "kairos-attempt": b"1",
        "kairos-first-failed-ms": b"%d" % DAY_AGO_MS,
        "kairos-copy-of": b"3:7",
    }
    again = told(installation, "redrive", "--execute")
    assert again["plan"] == {"letters": 0, "kinds": [], "left_out": {"re-driven already": 20}}
    assert len(await committed(installation, installation.topics.clicks)) == 20
    assert told(installation, "list")["counts"]["state"] == {"re-driven": 20}


async def test_a_filter_or_references_choose_and_the_rest_waits(installation: Installation) -> None:
    topics = installation.topics
    await lay(installation, [letter(installation, i) for i in range(6)])
    await lay(installation, [letter(installation, 6, reason="json", topic=topics.orders)])
    assert told(installation, "redrive", "--reason", "json", "--execute")["redriven"] == 1
    assert told(installation, "redrive", "--user", "u2", "--execute")["redriven"] == 1
    by_key = {row["offset"]: row["ref"] for row in told(installation, "list", "--topic", "events.clicks.v1")["letters"]}
    assert told(installation, "redrive", by_key[4], by_key[5], "--execute")["redriven"] == 2
    assert told(installation, "redrive", "--limit", "1", "--execute")["redriven"] == 1
    back = await committed(installation, topics.clicks) + await committed(installation, topics.orders)
    keys = Counter(record.key for record in back)
    assert set(keys.values()) == {1}
    assert {b"u2", b"u4", b"u5", b"u6"} <= set(keys)
    assert told(installation, "list")["counts"]["state"] == {"re-driven": 5, "waiting": 2}
    assert told(installation, "redrive", "--until", "1h", status=1)["error"].startswith("No dead letter of these is")


async def test_what_cannot_go_back_is_left_out_with_its_reason(installation: Installation) -> None:
    topics = installation.topics
    spent: Headers = [("kairos-attempt", b"2")]
    await lay(
        installation,
        [
            letter(installation, 1),
            letter(installation, 1),  # a worker was killed after it had sent it
            letter(installation, 2, headers=spent),
            letter(installation, 3, topic=topics.deltas, key=None),
            letter(installation, 4, topic="elsewhere.v1"),
            letter(installation, 5, key=None, value=None),
            letter(installation, 6, key=None, partition=77),
            letter(installation, 7, key=None, partition=2),
        ],
    )
    said = told(installation, "redrive", "--execute")
    assert said["redriven"] == 2
    assert said["plan"]["left_out"] == {
        "doubles of others, left by a worker that was killed": 1,
        "failed 3 times or more (--max-attempts)": 1,
        "item deltas, which count in their own order only: rebuild the item rows instead": 1,
        "of elsewhere.v1, which is no input of this installation": 1,
        "without key and value, which Kafka does not take": 1,
        "without key, of a partition that is no more": 1,
    }
    back = {record.key: record.partition for record in await committed(installation, topics.clicks)}
    assert back == {b"u1": partition_of(b"u1", 4), None: 2}
    assert told(installation, "list")["counts"]["state"]["re-driven"] == 3
    assert told(installation, "redrive", "--max-attempts", "9", "--execute")["redriven"] == 1


async def test_an_item_that_was_written_anew_since_keeps_its_newest_entry(installation: Installation) -> None:
    items = installation.topics.items
    producer = AIOKafkaProducer(bootstrap_servers=installation.kafka)
    await producer.start()
    try:
        old = await producer.send_and_wait(items, b'{"item_id": "i1", "price": 1}', b"i1", partition=0)
        await producer.send_and_wait(items, b'{"item_id": "i1", "price": 2}', b"i1", partition=0)
        lone = await producer.send_and_wait(items, b'{"item_id": "i2", "price": 3}', b"i2", partition=0)
    finally:
        await producer.stop()
    about: dict[str, Any] = {"topic": items, "partition": 0, "now_ms": NOW_MS}
    await lay(installation, [letter(installation, 1, key=b"i1", **about, offset=old.offset)])
    await lay(installation, [letter(installation, 2, key=b"i2", **about, offset=lone.offset)])
    said = told(installation, "redrive", "--execute")
    assert (said["redriven"], said["plan"]["left_out"]) == (1, {"about items that were written anew since": 1})
    assert [record.key for record in await committed(installation, items)].count(b"i2") == 2


async def test_a_letter_too_large_for_its_topic_holds_up_no_other(installation: Installation) -> None:
    huge = letter(installation, 3, value=b"x" * 1_048_500)
    await lay(installation, [letter(installation, 1), letter(installation, 2), huge, letter(installation, 4)])
    said = told(installation, "redrive", "--execute")
    assert said["redriven"] == 3
    ((why, n),) = said["plan"]["left_out"].items()
    assert (n, why.startswith("too large"), why.endswith("raise its max.message.bytes")) == (1, True, True)
    assert {record.key for record in await committed(installation, installation.topics.clicks)} == {b"u1", b"u2", b"u4"}


async def test_killed_in_the_middle_and_run_again_puts_each_letter_back_once(installation: Installation) -> None:
    n, clicks = 4000, installation.topics.clicks
    await lay(installation, [letter(installation, i) for i in range(n)])
    kills = 0
    for stop_at in (1, 700, 1500, 2500):
        run = start(installation, "--rate", "2000")
        # By the end of what is sent, committed or not: the kill falls into a transaction as often as between two.
        await sent(installation, stop_at, run)
        run.kill()
        run.communicate()
        kills += run.returncode == -9
    assert kills >= 3
    assert told(installation, "redrive", "--execute")["status"] == 0
    back = Counter(record.key for record in await committed(installation, clicks))
    assert set(back.values()) == {1}
    assert len(back) == n
    assert told(installation, "list", "--limit", "1")["counts"]["state"] == {"re-driven": n}


async def test_of_two_runs_at_a_time_the_later_goes_on_and_nothing_goes_back_twice(installation: Installation) -> None:
    n = 3000
    await lay(installation, [letter(installation, i) for i in range(n)])
    first = start(installation, "--rate", "500")
    await sent(installation, 200, first)
    assert told(installation, "redrive", "--execute")["status"] == 0
    _, complaint = await asyncio.to_thread(first.communicate, timeout=30)
    assert (first.returncode, b"took over" in complaint) == (1, True), complaint
    back = Counter(record.key for record in await committed(installation, installation.topics.clicks))
    assert (len(back), set(back.values())) == (n, {1})


async def test_one_letter_is_shown_whole_and_a_list_shows_no_personal_data(installation: Installation) -> None:
    await lay(installation, [letter(installation, 5), letter(installation, 6, value=b"\xff\0\x01", reason="utf-8")])
    page = installation.run("dead-letters", "list")
    assert page.returncode == 0
    assert "2 dead letters" in page.stdout
    assert "u5" not in page.stdout
    assert "under 1 h" in page.stdout
    rows = {row["offset"]: row["ref"] for row in told(installation, "list")["letters"]}
    shown = installation.run("dead-letters", "show", rows[5])
    assert shown.returncode == 0
    for text in ("The key of 5 belongs elsewhere.", '"item_id": "i1"', "u5", "header trace", "beyond its end"):
        assert text in shown.stdout
    assert "3 bytes: ff 00 01" in installation.run("dead-letters", "show", rows[6]).stdout
    facts = told(installation, "show", rows[6])
    assert (facts["value"], facts["value_hex"], facts["attempt"], facts["state"]) == (None, "ff0001", 1, "waiting")


async def test_what_is_not_there_is_told_with_what_is(installation: Installation) -> None:
    dead = installation.topics.dead_letters
    assert told(installation, "list", status=1)["error"] == f"No dead letter is kept in {dead}."
    assert told(installation, "redrive", status=1)["error"] == f"No dead letter is kept in {dead}."
    assert "has partitions 0 to 3" in told(installation, "show", "9:0", status=1)["error"]
    assert "holds nothing" in told(installation, "show", "1:0", status=1)["error"]
    await lay(installation, [letter(installation, 5)])
    (row,) = told(installation, "list")["letters"]
    partition = row["ref"].partition(":")[0]
    assert "holds offsets 0 to 0" in told(installation, "show", f"{partition}:4", status=1)["error"]
    told(installation, "redrive", "--execute")
    assert "a marker of letters that were put back" in told(installation, "show", f"{partition}:1", status=1)["error"]
    wrong = installation.run("dead-letters", "show", "five")
    assert (wrong.returncode, "is no reference to a dead letter" in wrong.stderr) == (2, True)
    wrong = installation.run("dead-letters", "list", "--since", "yesterday")
    assert (wrong.returncode, "or how long ago" in wrong.stderr) == (2, True)
    assert installation.run("dead-letters", "redrive", "--rate", "0").returncode == 2
    installation.env["KAIROS_TOPIC_PREFIX"] = "nowhere."
    assert "run `kairos topics create`" in told(installation, "list", status=1)["error"]


async def test_a_letter_that_fails_again_is_a_new_one_with_its_first_failure_kept(installation: Installation) -> None:
    await lay(installation, [letter(installation, 1, reason="json", value=b"{")])
    told(installation, "redrive", "--execute")
    (back,) = await committed(installation, installation.topics.clicks)
    again = bury(
        topic=back.topic, partition=back.partition, offset=back.offset, key=back.key, value=back.value,
        headers=back.headers, reason="json", detail="Again.", now_ms=NOW_MS,
    )  # fmt: skip
    assert (again.attempt, again.first_failed_ms, again.headers) == (2, DAY_AGO_MS, [("trace", b"1")])
    await lay(installation, [again])
    assert told(installation, "redrive", "--execute")["plan"]["left_out"] == {"re-driven already": 1}
    attempts = [dict(record.headers)["kairos-attempt"] for record in await committed(installation, back.topic)]
    assert attempts == [b"1", b"2"]
    letters = [
        r
        for r in await committed(installation, installation.topics.dead_letters)
        if dict(r.headers).get("kairos-reason")
    ]
    assert sorted(decode(r.key, r.value, r.headers).attempt for r in letters) == [1, 2]
