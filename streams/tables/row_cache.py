"""The rows of one partition that were in use lately, folded in place and read from the store when they are missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from streams.features.items import ItemLayout
from streams.features.rows import Layout, Rows, RowSlab, Slots

ReadRows = Callable[[list[bytes]], Awaitable[list[bytes | None]]]


class RowCache:
    """Rows by key in one slab, begun with room for `first` rows; `names[slot]` is the key as bytes."""

    def __init__(self, layout: Layout | ItemLayout, first: int) -> None:
        self.layout = layout
        self.names: list[bytes] = []
        self._slab = RowSlab(layout, first)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def rows(self) -> Rows:
        """All rows, by slot; another array after `hold`."""
        return self._slab.rows

    def clear(self) -> None:
        """Forget every row."""
        self._slab.clear()
        self.names.clear()

    def blobs(self, slots: Slots) -> list[bytes]:
        """Copies of the rows at `slots`, as they are stored: a write in flight does not see later folds."""
        return self.layout.pack(self.rows, slots)

    async def hold(self, keys: Sequence[str], read: ReadRows, limit_bytes: int) -> tuple[Slots, int]:
        """The slots of these keys, whose rows are held on return, and how many rows had to be read.

        Above the limit all other rows are forgotten first.
        """
        slab = self._slab
        slots = slab.slots(keys)
        if slab.new and len(slab) * self.layout.row_bytes > limit_bytes:
            self.clear()
            slots = slab.slots(keys)
        names = [key.encode() for key in slab.new]
        if names:
            slab.fill(await read(names))
            self.names += names
        return slots, len(names)
