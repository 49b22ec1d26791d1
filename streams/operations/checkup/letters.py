"""The dead letters of the last hour by reason, beside all records of that hour."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from schemas.dead_letters import REASON
from schemas.topics import Topics
from streams.admin import reading
from streams.service.findings import Finding, Section
from streams.service.topic_ids import TopicFacts

HOUR_MS = 3_600_000
MOST_READ = 20_000
MOST_SHARE, FEW = 0.1, 100
"""More than this share of an hour's records, and more than a few, is no accident of single records."""


async def look_at_letters(
    kafka: Mapping[str, Any], topics: Topics, known: Mapping[str, TopicFacts], now_ms: int
) -> Section:
    """Count what went wrong in the last hour."""
    section = Section("dead letters")
    letters = _partitions([topics.dead_letters], known)
    inputs = _partitions(topics.user_inputs, known)
    async with reading(kafka, auto_offset_reset="none", fetch_max_wait_ms=20) as consumer:
        since, ends = await asyncio.gather(
            _since(consumer, [*letters, *inputs], now_ms - HOUR_MS), consumer.end_offsets([*letters, *inputs])
        )
        buried = {tp: ends[tp] - since.get(tp, ends[tp]) for tp in letters}
        reasons, read = await _reasons(consumer, {tp: since[tp] for tp in letters if buried[tp]}, ends)
    records = sum(ends[tp] - since.get(tp, ends[tp]) for tp in inputs)
    total = sum(buried.values())
    section.facts = {"last_hour": total, "records_last_hour": records, "read": read, "reasons": dict(reasons)}
    section.findings += judge_letters(total, records, reasons, read)
    return section


def judge_letters(total: int, records: int, reasons: Mapping[str, int], read: int) -> Iterator[Finding]:
    """How bad it is; `read` of `total` letters were looked at for their reasons."""
    if not total:
        yield Finding("green", f"none in the last hour, of {records:,} records")
        return
    told = ", ".join(f"{reason} {count:,}" for reason, count in Counter(reasons).most_common())
    part = "" if read >= total else f" (of {read:,} that were read)"
    share = total / max(records, total)
    bad = share > MOST_SHARE and total > FEW
    yield Finding(
        "red" if bad else "yellow",
        f"{total:,} in the last hour, {share:.1%} of {records:,} records: {told}{part}.",
        "`kairos dead-letters list` shows them; mend the producer, then `kairos dead-letters redrive`.",
    )


def _partitions(names: Sequence[str], known: Mapping[str, TopicFacts]) -> list[TopicPartition]:
    return [TopicPartition(name, p) for name in names if name in known for p in range(known[name].partitions)]


async def _since(consumer: Any, partitions: Sequence[TopicPartition], ms: int) -> dict[TopicPartition, int]:
    """First offset of each partition at or after a time, none for a partition with no such record."""
    if not partitions:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, ms))
    return {tp: at.offset for tp, at in found.items() if at is not None}


async def _reasons(
    consumer: Any, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> tuple[Counter[str], int]:
    """Reasons of the newest letters, at most MOST_READ; and how many were read."""
    reasons: Counter[str] = Counter()
    if not starts:
        return reasons, 0
    consumer.assign(list(starts))
    share = MOST_READ // len(starts)
    for tp, start in starts.items():
        consumer.seek(tp, max(start, ends[tp] - share))
    left = set(starts)
    while left:
        for records in (await consumer.getmany(*left, timeout_ms=200)).values():
            for record in records:
                reason = dict(record.headers).get(REASON) or b"without a reason"
                reasons[reason.decode("utf-8", "replace")] += 1
        left -= {tp for tp in left if await consumer.position(tp) >= ends[tp]}
    return reasons, reasons.total()
