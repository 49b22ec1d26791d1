"""Who sends dead letters where several namespaces are folded from the same log: the workers of the live one, once each.

What the live namespace has applied is buried, and so is what the one before it had applied: this never changes again.
What neither has applied is sent by whoever folds into the live one. Another one waits with its chunk until either is
true, so that no letter is lost at the moment when it becomes the live one itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from schemas.keys import Keys
from streams.pipeline import DeadLetters, Rejected
from streams.service import namespaces
from streams.service.redis import Client
from streams.tables import scan
from streams.tables.weather import Weather

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.2
PATIENCE_S = 5.0
"""How long a wait for the live namespace is nothing to tell: it is a moment ahead or behind."""

Meta = Mapping[bytes, bytes]


class Burial:
    """The dead letters of one side of `namespace`, which may be live in `installation` or not.

    `tag` names a partition's keys of that side; `weather` rides out trouble with Redis. `sent` counts by reason what
    was sent here.
    """

    def __init__(
        self,
        sink: DeadLetters,
        client: Client,
        namespace: str,
        installation: str,
        tag: Callable[[Keys, int], bytes],
        weather: Weather,
    ) -> None:
        self.sink, self.client, self.weather = sink, client, weather
        self.namespace, self.installation = namespace, installation
        self.sent: Counter[str] = Counter()
        self._tag = tag
        self._held: dict[int, str] = {}

    @property
    def waits(self) -> str:
        """A sentence when the live namespace has stood still for a while below a letter, else empty."""
        return next(iter(self._held.values()), "")

    async def send(self, letters: Sequence[Rejected]) -> None:
        """Return when all letters, of one partition, are kept by whoever has to; raises OutboxError and Broken."""
        partition, since_s, pause_s, left = letters[0].partition, time.monotonic(), FIRST_PAUSE_S, [*letters]
        try:
            while left:
                judging = partial(self._judged, left)
                ours, left, live = await self.weather.ride("asking who sends dead letters", judging)
                if ours:
                    await self.sink.send(ours)
                    self.sent.update(letter.reason for letter in ours)
                if left:
                    if time.monotonic() - since_s > PATIENCE_S:
                        self._held[partition] = _sentence(left[0], live)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            self._held.pop(partition, None)

    async def _judged(self, letters: list[Rejected]) -> tuple[list[Rejected], list[Rejected], str]:
        """Letters that are ours to send, those that the live namespace has yet to come to, and that namespace."""
        installation = await namespaces.beside(self.client, self.namespace) or self.installation
        force = await namespaces.in_force(self.client, installation)
        others = [n for n in dict.fromkeys((force.live, force.origin, force.previous)) if n and n != self.namespace]
        if not others:
            return letters, [], force.live
        tags = [self._tag(Keys(name), letters[0].partition) for name in (self.namespace, *others)]
        own, *metas = await scan.metas(self.client, tags)
        fences = [scan.fences(meta) for meta in metas]
        ours, left = list[Rejected](), list[Rejected]()
        for letter in letters:
            same = [_same_log(own, meta, letter.topic) for meta in metas]
            offset = letter.record.offset
            if any(same[i] and fences[i].get(letter.topic, -1) >= offset for i in range(len(others))):
                continue
            # A log that the live namespace is not built from has nobody else to answer for it.
            waits = force.live != self.namespace and same[0]
            (left if waits else ours).append(letter)
        return ours, left, force.live


def _same_log(one: Meta, other: Meta, topic: str) -> bool:
    name = f"i:{topic}".encode()
    return name in one and one[name] == other.get(name)


def _sentence(letter: Rejected, live: str) -> str:
    return (
        f"Offset {letter.record.offset} of {letter.topic}:{letter.partition} is a dead letter, which namespace {live} "
        f"has yet to send: see that `kairos worker` runs there (`kairos lag`)."
    )
