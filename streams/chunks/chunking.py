"""How a worker of this transport cuts, fetches and seeks: the settings Faust has no names for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from faust.types import TP

from streams.chunks.chunk import LogFacts


class Start(NamedTuple):
    """Where reading of a partition goes on; `stopped` is why it must not, empty where it may."""

    offset: int
    stopped: str = ""


Positions = Callable[[Sequence[LogFacts]], Awaitable[Mapping[TP, Start]]]


@dataclass(frozen=True)
class Chunking:
    """`positions` answers the offset to read next for each partition asked for (fence + 1), or refuses.

    `records` bounds a chunk. `fetch_wait_ms` is how long the broker may hold back an answer below `fetch_min_bytes`;
    a seek waits behind that answer. `seek_deadline_s` must stay below Faust's `broker_request_timeout`: mode reports
    a longer wait as "service stopped", and the recovery task then ends without a word while the worker looks alive.
    """

    positions: Positions
    records: int = 500
    read_committed: bool = True
    fetch_wait_ms: int = 250
    fetch_min_bytes: int = 1
    seek_deadline_s: float = 20.0

    @property
    def isolation(self) -> str:
        return "read_committed" if self.read_committed else "read_uncommitted"


class TransportError(Exception):
    """Root of what ends a worker from within the transport: SeekOverdue, TopicGone."""


class SeekOverdue(TransportError):
    """Kafka or Redis did not answer in time where to start reading."""


class TopicGone(TransportError):
    """An assigned topic does not exist any more."""
