"""What a table raises.

TableError over Rewind, Stale, Broken and Refused; Refused over NotInitialised, TopicReplaced, Repartitioned, Hole,
Evicting, OtherDeclaration; Hole over LostRange and Truncated. The first two steer the reader of a partition, a Hole
stops one partition, the others end the process.
"""

from __future__ import annotations

REBUILD = (
    "build the tables anew beside these, by `kairos replay --mode rebuild --into NAME --execute` and then "
    "`kairos promote NAME --execute`, where NAME is a new namespace (docs/promote.md)"
)
INIT = "`kairos topics init`"


class TableError(Exception):
    """Root of what a table raises."""


class Rewind(TableError):
    """The partition must be read again from `offset`: records between the fence and the chunk are missing."""

    def __init__(self, topic: str, partition: int, offset: int, why: str) -> None:
        super().__init__(f"{topic}:{partition} must be read again from offset {offset}: {why}")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.why = why


class Stale(TableError):
    """The chunk in hand was drained before a newer seek of its partition: drop it, the records come again."""


class Broken(TableError):
    """Redis answered that the call itself is wrong; trying again cannot help."""


class Refused(TableError):
    """Reading on would be unsafe; an operator must decide, the process must end."""


class NotInitialised(Refused):
    """The meta hash of a partition is missing or incomplete."""

    def __init__(self, topic: str, partition: int, key: bytes) -> None:
        super().__init__(
            f"{topic}:{partition} has no base offset in Redis key {key.decode()}: it was never initialised, was "
            f"flushed, or this is another database. For a new installation run {INIT}; after a loss of data {REBUILD}."
        )
        self.topic, self.partition = topic, partition


class TopicReplaced(Refused):
    """Same name, another topic id: the stored offsets mean something else."""

    def __init__(self, topic: str, partition: int, stored: str, found: str) -> None:
        super().__init__(
            f"{topic}:{partition} is another topic than the table was built from (topic id {stored} before, {found} "
            f"now): it was deleted and created again, so stored offsets mean nothing; {REBUILD}."
        )


class Repartitioned(Refused):
    """The partition count changed: keys moved to other partitions."""

    def __init__(self, topic: str, partition: int, stored: int | None, found: int) -> None:
        super().__init__(
            f"{topic}:{partition} has {found} partitions, the table was built over {stored}: keys have moved between "
            f"partitions; restore the old count or {REBUILD}."
        )


class Hole(Refused):
    """The log of one partition lost records that its rows need from offset `needed` on; others can be read on."""

    def __init__(self, topic: str, partition: int, needed: int, said: str) -> None:
        super().__init__(said)
        self.topic, self.partition, self.needed = topic, partition, needed


class LostRange(Hole):
    """The log starts above the next offset that the table needs."""

    def __init__(self, topic: str, partition: int, needed: int, log_start: int) -> None:
        super().__init__(
            topic,
            partition,
            needed,
            f"{topic}:{partition} is needed from offset {needed} but its log starts at {log_start}: retention or a "
            f"delete removed records before they were applied; {REBUILD}, and raise the topic's retention.",
        )


class Truncated(Hole):
    """The log ends, or once ended, below what the table has applied: offsets above its end mean other records now."""

    def __init__(self, topic: str, partition: int, needed: int, log_end: int) -> None:
        super().__init__(
            topic,
            partition,
            needed,
            f"{topic}:{partition} ended at offset {log_end} when the table had applied everything below {needed}: the "
            f"broker lost records it had served (unclean election or a lost disk); {REBUILD}.",
        )
        self.log_end = log_end


class Evicting(Refused):
    """Redis may delete rows and fences by itself."""


class OtherDeclaration(Refused):
    """Rows or deltas were written under another declaration of features."""
