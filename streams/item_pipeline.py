"""The story of one chunk of the item side: delta records into item rows, catalogue records into the catalogue.

    check the fence -> unpack or decode -> breaker -> dead letters, awaited -> rows, fold, one script

Deltas were made by `streams.pipeline` of other partitions; each counts once, by the source offset that it carries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from schemas.deltas import DeltaError, DeltaSource, unpack_deltas
from schemas.faults import MAX_VALUE_BYTES
from schemas.items import decode_items, encode_item
from schemas.topics import Topics
from streams.breaker import Breaker, Step
from streams.grouping import settled, standing
from streams.pipeline import DeadLetters, Record, Rejected
from streams.poison import culprits
from streams.tables.attempt import Verdict, nothing_stale
from streams.tables.errors import OtherDeclaration, TableError
from streams.tables.items import DeltaRun, ItemChange, ItemTable
from streams.tables.part import Chunk, known_in


@dataclass
class ItemPipelineStats:
    """What became of records since the start of the process."""

    catalogue: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    on_chunk: Callable[[int], None] = field(default=lambda _records: None, repr=False)


class ItemPipeline:
    """Applies chunks of the two topics partitioned by item."""

    def __init__(
        self, table: ItemTable, topics: Topics, dead_letters: DeadLetters, *, max_value_bytes: int = MAX_VALUE_BYTES
    ) -> None:
        self.table = table
        self.topics = topics
        self.dead_letters = dead_letters
        self.max_value_bytes = max_value_bytes
        self.breaker: Breaker | None = None
        self.stats = ItemPipelineStats()
        self._declaration = table.layout.declaration

    async def process(self, chunks: Sequence[Chunk], stale: Callable[[Chunk], bool] = nothing_stale) -> list[Verdict]:
        """Apply chunks of one partition, as `Pipeline.process`."""
        found = await standing(self.table, chunks, stale)
        read = [self._read(chunk, fence) for chunk, fence in zip(chunks, found, strict=True) if isinstance(fence, int)]
        if self.breaker is not None:
            await self.breaker.admit([step for _, _, step, _ in read])
        await self._bury([letter for *_, letters in read for letter in letters])
        changes = [(chunk, change) for chunk, change, _, _ in read]
        return settled(found, await self._apply(changes, stale) if changes else ())

    def _read(self, chunk: Chunk, fence: int) -> tuple[Chunk, ItemChange, Step, list[Rejected]]:
        """What the records above the fence say, and those that say nothing."""
        records: Sequence[Record] = chunk.records[known_in(chunk, fence) :]
        self.stats.on_chunk(len(records))
        read = self._read_deltas if chunk.topic == self.topics.deltas else self._read_catalogue
        change, letters = read(chunk, records)
        return chunk, change, Step(chunk.topic, chunk.partition, fence, records, letters), letters

    def _read_catalogue(self, chunk: Chunk, records: Sequence[Record]) -> tuple[ItemChange, list[Rejected]]:
        home = (chunk.partition, self.table.partitions(chunk.partition))
        run = decode_items(records, max_value_bytes=self.max_value_bytes, home=home)
        letters = [Rejected(chunk.topic, chunk.partition, records[r.index], r.reason, r.detail) for r in run.rejects]
        entries = {name.encode(): encode_item(item) for name, item in run.latest.items() if item is not None}
        removed = [name.encode() for name, item in run.latest.items() if item is None]
        self.stats.catalogue.update(updated=len(entries), removed=len(removed))
        return ItemChange(entries=entries, removed=removed), letters

    def _read_deltas(self, chunk: Chunk, records: Sequence[Record]) -> tuple[ItemChange, list[Rejected]]:
        runs, letters = [], []
        for record in records:
            try:
                runs.append(self._unpack(record))
            except DeltaError as error:
                letters.append(Rejected(chunk.topic, chunk.partition, record, "shape", f"{error}."))
        return ItemChange(deltas=runs), letters

    def _unpack(self, record: Record) -> DeltaRun:
        source = DeltaSource.of(record.headers)
        if source.schema != self._declaration.schema:
            text = (
                f"A delta record has schema {source.schema}, this process reads schema {self._declaration.schema}: run "
                "all workers with one features.toml, or rebuild into a new namespace by replaying the topics."
            )
            raise OtherDeclaration(text)
        deltas, item_ids = unpack_deltas(record.value)
        return DeltaRun(record.offset, source, deltas, item_ids)

    async def _apply(
        self, changes: Sequence[tuple[Chunk, ItemChange]], stale: Callable[[Chunk], bool]
    ) -> list[Verdict]:
        try:
            return await self.table.apply(changes, stale)
        except (TableError, MemoryError):
            raise
        except Exception:
            # One record spoils the fold of all, so now chunk by chunk.
            healthy = [(chunk, await self._without_poison(chunk, change)) for chunk, change in changes]
            return [verdict for one in healthy for verdict in await self.table.apply([one], stale)]

    async def _without_poison(self, chunk: Chunk, change: ItemChange) -> ItemChange:
        runs = change.deltas
        poison = await culprits(
            len(runs),
            lambda group: self.table.folds(chunk.partition, ItemChange(deltas=[runs[i] for i in group.tolist()])),
        )
        if not poison:
            return change
        offsets = {runs[i].offset for i in poison}
        detail = "The deltas cannot be folded although they were unpacked: report it as a fault of Kairos."
        bad = [record for record in chunk.records if record.offset in offsets]
        await self._bury([Rejected(chunk.topic, chunk.partition, record, "poison", detail) for record in bad])
        return replace(change, deltas=[run for run in runs if run.offset not in offsets])

    async def _bury(self, letters: Sequence[Rejected]) -> None:
        if letters:
            await self.dead_letters.send(letters)
            self.stats.rejects.update(letter.reason for letter in letters)
