"""The circuit breaker: a worker stops rather than send most of a topic to the dead letters.

It looks at what a step would send before any of it is sent. What it remembers of a partition, one bit a record, is
kept in the store before letters leave: a start after a stop sees what the process before it saw, and stops at the same
place with no letter sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from streams.tables.errors import Refused


class Placed(Protocol):
    """A record as far as the breaker knows it."""

    @property
    def offset(self) -> int: ...


class Letter(Protocol):
    """A record that would become a dead letter, and why."""

    @property
    def record(self) -> Any: ...
    @property
    def reason(self) -> str: ...
    @property
    def detail(self) -> str: ...


class Step(NamedTuple):
    """Records of one topic and partition above its fence, in order, and the letters that they would become."""

    topic: str
    partition: int
    fence: int
    records: Sequence[Placed]
    letters: Sequence[Letter]


class Notes(Protocol):
    """What a table keeps beside its fences."""

    def note(self, topic: str, partition: int) -> bytes: ...
    async def keep_note(self, topic: str, partition: int, note: bytes) -> None: ...


class Tripped(NamedTuple):
    """Where a breaker is open: the offsets of the step that opened it, and what most of its letters are about."""

    first: int
    last: int
    reason: str
    sentence: str


class Window(NamedTuple):
    """The newest records of a partition up to `offset`, the last one in bit 0; a set bit was a dead letter."""

    offset: int
    bits: int
    tripped: Tripped | None = None

    def to_note(self) -> bytes:
        return orjson.dumps(
            {"offset": self.offset, "bits": f"{self.bits:x}", "tripped": self.tripped and list(self.tripped)}
        )

    @staticmethod
    def of_note(note: bytes) -> Window | None:
        """What a note says; None for none and for one that is none."""
        try:
            said = orjson.loads(note)
            tripped = Tripped(*said["tripped"]) if said["tripped"] else None
            return Window(int(said["offset"]), int(said["bits"], 16), tripped)
        except (ValueError, KeyError, TypeError):
            return None


class TooManyDeadLetters(Refused):
    """Most of the newest records of a partition cannot be used."""

    def __init__(self, step: Step, share: float, of: int, tripped: Tripped) -> None:
        super().__init__(
            f"{step.topic}:{step.partition} stops at offsets {tripped.first} to {tripped.last}: more than {share:.0%} "
            f'of its last {of:,} records would be dead letters, most of these with reason "{tripped.reason}", such as '
            f"{tripped.sentence} None of these was sent, and the fence stays at {step.fence}. If Kairos is set wrong, "
            "mend the setting (features.toml, KAIROS_MAX_VALUE_BYTES) and start again. If a producer is wrong, fix it, "
            "then start with KAIROS_BREAKER_SHARE=1: what lies in the topic goes to the dead letters, and `kairos "
            "dead-letters redrive` puts it back later."
        )
        self.step, self.tripped = step, tripped


class Breaker:
    """Of the last `records` records of a topic and partition at most a `share` may become dead letters.

    A record that was never seen counts as good, so a young topic trips only when it has had that many bad ones.
    `open` holds the sentences of what has tripped.
    """

    def __init__(self, notes: Notes, *, records: int = 1000, share: float = 0.5) -> None:
        self.open: dict[str, str] = {}
        self._notes, self._records, self._share = notes, records, share
        self._most, self._mask = share * records, (1 << records) - 1
        self._windows: dict[tuple[str, int], Window] = {}

    async def admit(self, steps: Sequence[Step]) -> None:
        """Return when the letters of all steps may be sent; raises TooManyDeadLetters before any of them was."""
        looked = [(step, *self._look(step)) for step in steps]
        for step, before, after in looked:
            if after.tripped is not None:
                await self._keep(step, before._replace(tripped=after.tripped))
                refusal = TooManyDeadLetters(step, self._share, self._records, after.tripped)
                self.open[f"{step.topic}:{step.partition}"] = str(refusal)
                raise refusal
        for step, _, after in looked:
            self._windows[step.topic, step.partition] = after
            if step.letters:
                await self._keep(step, after)

    def shares(self) -> Iterator[tuple[str, int, float]]:
        """Topic, partition and share of dead letters of every partition that was looked at."""
        for (topic, partition), window in sorted(self._windows.items()):
            yield topic, partition, window.bits.bit_count() / self._records

    async def _keep(self, step: Step, window: Window) -> None:
        await self._notes.keep_note(step.topic, step.partition, window.to_note())

    def _look(self, step: Step) -> tuple[Window, Window]:
        """The window below a step and the one above it, `tripped` where it went over the limit on the way."""
        before = self._below(step)
        fresh = step.records
        if fresh and fresh[0].offset <= before.offset:
            fresh = [record for record in fresh if record.offset > before.offset]
        last = fresh[-1].offset if fresh else before.offset
        if not step.letters:
            return before, Window(last, before.bits << len(fresh) & self._mask if before.bits else 0)
        bad, bits, tripped = {letter.record.offset for letter in step.letters}, before.bits, False
        for record in fresh:
            bits = bits << 1 & self._mask
            if record.offset in bad:
                bits |= 1
                tripped = tripped or bits.bit_count() > self._most
        return before, Window(last, bits, _story(step) if tripped else None)

    def _below(self, step: Step) -> Window:
        """What is known up to the fence at least; what nobody looked at was good.

        It may reach further, after a step that was looked at and not applied: no record counts twice.
        """
        window = self._windows.get((step.topic, step.partition))
        if window is None or window.offset < step.fence:
            noted = Window.of_note(self._notes.note(step.topic, step.partition))
            window = max((w for w in (window, noted) if w is not None), key=lambda w: w.offset, default=None)
        if window is None:
            return Window(step.fence, 0)
        passed = min(max(0, step.fence - window.offset), self._records)
        return Window(max(window.offset, step.fence), window.bits << passed & self._mask)


def _story(step: Step) -> Tripped:
    reason = Counter(letter.reason for letter in step.letters).most_common(1)[0][0]
    example = next(letter for letter in step.letters if letter.reason == reason)
    sentence = f"offset {example.record.offset}: {example.detail}"
    return Tripped(step.records[0].offset, step.records[-1].offset, reason, sentence)
