"""Where every partition of every input stands: what the rows hold against what the log holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from schemas.keys import Keys
from schemas.topics import Topics
from streams.admin import administering, describe, reading
from streams.service.redis import Client
from streams.service.topic_ids import TopicFacts
from streams.tables import survey
from streams.tables.errors import Hole, LostRange, Truncated

OLDEST_WITHIN_S = 5.0
"""How long the times of unapplied records may take to read; what was not read by then stays unknown."""


class Standing(NamedTuple):
    """One partition: its log `start` .. `end` (excluded) as a worker may read it, and the last offset applied.

    `oldest_ms`: Kafka's time of the oldest record that is not applied, None where there is none or it was not read.
    `empty`: no record lies between the fence and the end, just markers of transactions or what compaction left.
    `hole`: what keeps workers from reading this one partition on, None where nothing does.
    """

    topic: str
    partition: int
    start: int
    end: int
    fence: int | None
    oldest_ms: int | None = None
    empty: bool = False
    hole: Hole | None = None

    @property
    def behind(self) -> int:
        """Offsets that are not applied; 0 where the fence is unknown."""
        return 0 if self.fence is None or self.empty else max(0, self.end - 1 - self.fence)

    @property
    def lost(self) -> int:
        """Offsets above the fence that the log does not hold any more."""
        return 0 if self.fence is None else max(0, self.start - self.fence - 1)

    @property
    def beyond(self) -> int:
        """Offsets that are applied, though the log ends below them."""
        return 0 if self.fence is None else max(0, self.fence + 1 - self.end)


class Seen(NamedTuple):
    """A look at one installation: the topics that exist, the meta hashes by tag, and where each partition stands."""

    topics: Mapping[str, TopicFacts]
    users: Sequence[survey.Meta]
    items: Sequence[survey.Meta]
    standings: Sequence[Standing]

    def meta(self, topics: Topics, topic: str, partition: int) -> survey.Meta:
        """The meta hash behind a partition of an input topic, empty where there is none."""
        held = self.items if topic in topics.item_inputs else self.users
        return held[partition] if partition < len(held) else {}


async def see(kafka: Mapping[str, Any], client: Client, keys: Keys, topics: Topics, isolation: str) -> Seen:
    """Look at everything once. Raises what Kafka and Redis raise; topics that do not exist are left out."""
    names = [*topics.user_inputs, *topics.item_inputs]
    async with administering(kafka) as admin:
        found = await describe(admin, names)
    known = {name: found[name] for name in names if name in found}
    counts = [
        max((known[t].partitions for t in group if t in known), default=0)
        for group in (topics.user_inputs, topics.item_inputs)
    ]
    users = await survey.metas(client, [keys.user_tag(p) for p in range(counts[0])])
    items = await survey.metas(client, [keys.item_tag(p) for p in range(counts[1])])
    seen = Seen(known, users, items, ())
    fences = {
        TopicPartition(name, p): survey.fence(seen.meta(topics, name, p), name)
        for name, facts in known.items()
        for p in range(facts.partitions)
    }
    standings = await _standings(kafka, fences, isolation)
    holes = [hole(s, seen.meta(topics, s.topic, s.partition), known[s.topic]) for s in standings]
    return seen._replace(standings=[s._replace(hole=found) for s, found in zip(standings, holes, strict=True)])


def hole(standing: Standing, meta: survey.Meta, facts: TopicFacts) -> Hole | None:
    """What its log has lost of what its rows need; of another topic under the same name nothing can be said."""
    topic, partition, fence = standing.topic, standing.partition, standing.fence
    if fence is None or survey.topic_id(meta, topic) != facts.id:
        return None
    end = survey.truncated(meta, topic)
    if end is not None or standing.beyond:
        return Truncated(topic, partition, fence + 1, standing.end if end is None else end)
    return LostRange(topic, partition, fence + 1, standing.start) if standing.lost else None


async def _standings(
    kafka: Mapping[str, Any], fences: Mapping[TopicPartition, int | None], isolation: str
) -> list[Standing]:
    if not fences:
        return []
    async with reading(kafka, auto_offset_reset="none", isolation_level=isolation, fetch_max_wait_ms=20) as consumer:
        starts, ends = await asyncio.gather(
            consumer.beginning_offsets(list(fences)), consumer.end_offsets(list(fences))
        )
        made = {tp: Standing(tp.topic, tp.partition, starts[tp], ends[tp], fence) for tp, fence in fences.items()}
        behind = {tp: max(s.start, s.fence + 1) for tp, s in made.items() if s.behind and s.fence is not None}
        oldest = await _oldest(consumer, {tp: at for tp, at in behind.items() if at < ends[tp]}, ends)
    for tp, found in oldest.items():
        made[tp] = made[tp]._replace(oldest_ms=found, empty=found is None)
    return list(made.values())


async def _oldest(
    consumer: Any, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | None]:
    """Kafka's time of the first record from each start on, None where none lies below the end."""
    found: dict[TopicPartition, int | None] = {}
    if not starts:
        return found
    consumer.assign(list(starts))
    for tp, offset in starts.items():
        consumer.seek(tp, offset)
    try:
        async with asyncio.timeout(OLDEST_WITHIN_S):
            while open_ := [tp for tp in starts if tp not in found]:
                for tp, records in (await consumer.getmany(*open_, timeout_ms=200, max_records=len(open_))).items():
                    found[tp] = records[0].timestamp if records[0].offset < ends[tp] else None
                    consumer.pause(tp)
                for tp in open_:
                    if tp not in found and await consumer.position(tp) >= ends[tp]:
                        found[tp] = None
    except TimeoutError:
        pass
    return found
