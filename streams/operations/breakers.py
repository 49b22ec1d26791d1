"""Which breakers are open: partitions at which a worker stopped rather than set most of its records aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.keys import Keys
from streams.breaker import Tripped, Window
from streams.service.namespaces import in_force
from streams.service.redis import connect
from streams.service.settings import Connections
from streams.tables.look import beside_fences, partitions_of


class OpenBreaker(NamedTuple):
    """A partition of a topic that waits for an operator, and what was found there."""

    topic: str
    partition: int
    tripped: Tripped

    def __str__(self) -> str:
        first, last, reason, sentence = self.tripped
        return (
            f"The breaker of {self.topic}:{self.partition} is open: its worker stopped at offsets {first} to {last}, "
            f'most of which would be dead letters with reason "{reason}", such as {sentence}'
        )


async def open_breakers(connections: Connections) -> list[OpenBreaker]:
    """Those of the live tables of an installation; raises what streams.service.trouble names when Redis is away."""
    client = connect(connections)
    try:
        keys = Keys((await in_force(client, connections.namespace)).live)
        found: list[OpenBreaker] = []
        for tag_of in (keys.user_tag, keys.item_tag):
            for partition in range(await partitions_of(client, tag_of(0)) or 0):
                found += opened(partition, await beside_fences(client, tag_of(partition)))
        return found
    finally:
        await client.aclose()


def opened(partition: int, noted: dict[str, tuple[int, bytes]]) -> Sequence[OpenBreaker]:
    """Of the notes of a partition those about records that are not applied yet."""
    found = []
    for topic, (fence, note) in sorted(noted.items()):
        window = Window.of_note(note)
        if window is not None and window.tripped is not None and fence < window.tripped.last:
            found.append(OpenBreaker(topic, partition, window.tripped))
    return found
