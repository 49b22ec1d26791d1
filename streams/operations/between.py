"""What one namespace has applied of the log and another has not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.keys import Keys
from schemas.topics import Topics
from streams.chunks.chunk import LogFacts
from streams.replay.ranges import Range
from streams.replay.survey import survey
from streams.service.kafka import client_options
from streams.service.redis import Client
from streams.settings import ReadSettings
from streams.tables import survey as tables

Metas = Mapping[bool, Sequence[tables.Meta]]
"""Meta hashes of the partitions of users (False) and items (True)."""


class Ground(NamedTuple):
    """The logs of the inputs as they are now, and the fences of two namespaces in them."""

    topics: Topics
    facts: Sequence[LogFacts]
    one: Metas
    other: Metas

    def one_lacks(self) -> list[Range]:
        """What the other one has applied and the one has not, of logs that both are built from."""
        found = (self._range(fact, self.one, self.other) for fact in self._shared())
        return [r for r in found if r is not None and r.records > 0]

    def other_lacks(self) -> list[Range]:
        """What the one has applied and the other has not; all of a log that the other is not built from."""
        found = (self._range(fact, self.other, self.one, whole=True) for fact in self._shared())
        return [r for r in found if r is not None and r.records > 0]

    def deltas(self) -> list[Range]:
        """What the one has yet to apply of its own item deltas."""
        mine = [fact for fact in self.facts if fact.topic == self.topics.deltas]
        fences = [tables.fence(self.one[True][fact.partition], fact.topic) for fact in mine]
        found = [_of(f, at + 1, f.log_end) for f, at in zip(mine, fences, strict=True) if at is not None]
        return [r for r in found if r.records > 0]

    def _shared(self) -> Iterable[LogFacts]:
        return (fact for fact in self.facts if fact.topic != self.topics.deltas)

    def _range(self, fact: LogFacts, behind: Metas, ahead: Metas, *, whole: bool = False) -> Range | None:
        items, topic = fact.topic in self.topics.item_inputs, fact.topic
        here, there = behind[items][fact.partition], ahead[items][fact.partition]
        reached = tables.fence(there, topic)
        if reached is None or tables.topic_id(there, topic) != fact.topic_id:
            return None
        fence = tables.fence(here, topic) if tables.topic_id(here, topic) == fact.topic_id else None
        if fence is None and not whole:
            return None
        first = int(there.get(b"b:" + topic.encode(), 0)) if fence is None else fence + 1
        return _of(fact, max(first, fact.log_start), reached + 1)


async def ground(client: Client, settings: ReadSettings, other: str) -> Ground:
    """The namespace that the settings name beside another one. Raises ReplayError, KafkaError and OSError."""
    connections = settings.connections
    topics = connections.topics
    names = (*topics.user_inputs, *topics.item_inputs)
    facts = await survey(client_options(connections), names, settings.isolation)
    counts = {fact.topic in topics.item_inputs: fact.partitions for fact in facts}
    pair = [await _metas(client, keys, counts) for keys in (connections.keys, Keys(other))]
    return Ground(topics, facts, *pair)


async def _metas(client: Client, keys: Keys, counts: Mapping[bool, int]) -> Metas:
    tags = {False: keys.user_tag, True: keys.item_tag}
    return {items: await tables.metas(client, [*map(tags[items], range(count))]) for items, count in counts.items()}


def _of(fact: LogFacts, first: int, end: int) -> Range:
    return Range(fact.topic, fact.partition, first, max(first, min(end, fact.log_end)), *fact[2:])
