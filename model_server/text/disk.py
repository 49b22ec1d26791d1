"""Vectors of titles in one growing file a back end: read by many processes, appended to by one at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model_server.retrieval.pairs import F32
    from model_server.scoring import U64, Bools

SLACK = 0.1
"""A vector whose length is further from one was not written by us."""


class VectorFile:
    """<folder>/<back end>.vectors: records of a key u64 and a vector f16[width], in the order of their writing.

    A record that a kill cut short is passed over, and cut off by the next writer.
    """

    def __init__(self, folder: Path, back_end: str, width: int) -> None:
        self.path = folder / f"{back_end}.vectors"
        self._width = width
        self._form = np.dtype([("key", "<u8"), ("vector", "<f2", (width,))])
        self._count = 0
        self._sorted, self._order = np.empty(0, np.uint64), np.empty(0, np.int64)

    def get(self, keys: U64) -> tuple[Bools, F32]:
        """(which keys are there, their vectors f32[N, width], 0 for the others). Raises OSError."""
        found, vectors = np.zeros(len(keys), np.bool_), np.zeros((len(keys), self._width), np.float32)
        records = self._look()
        if records is None or not len(keys):
            return found, vectors
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        rows = np.flatnonzero(self._sorted[at] == keys)
        read = records["vector"][self._order[at[rows]]].astype(np.float32)
        sound = np.abs(np.linalg.norm(read, axis=1) - 1) < SLACK  # NaN is not
        found[rows[sound]], vectors[rows[sound]] = True, read[sound]
        return found, vectors

    def put(self, keys: U64, vectors: F32) -> None:
        """Append these. Raises OSError."""
        records = np.empty(len(keys), self._form)
        records["key"], records["vector"] = keys, vectors
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go when the file is closed
            size = file.seek(0, 2)
            if torn := size % self._form.itemsize:
                file.truncate(size - torn)
            file.write(records.tobytes())

    def _look(self) -> np.memmap | None:
        """The records, with the index of their keys brought up to date; None where there are none."""
        try:
            count = self.path.stat().st_size // self._form.itemsize
        except FileNotFoundError:
            count = 0
        if count == 0:
            self._count = 0
            return None
        records = np.memmap(self.path, self._form, "r", shape=(count,))
        if count != self._count:
            keys = np.array(records["key"])
            self._order = np.argsort(keys, kind="stable")
            self._sorted, self._count = keys[self._order], count
        return records
