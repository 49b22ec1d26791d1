"""Raw vectors of titles, each read once: from disk where it is known, else by the back end, which then is opened."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_server.text.back_end import BackEnd, keys_of, opened
from model_server.text.disk import VectorFile

if TYPE_CHECKING:
    from model_server.retrieval.pairs import F32
    from model_server.scoring import U64, Bools

log = logging.getLogger(__name__)

WIDTH = 384
"""Numbers a title, of either back end."""
BATCH = 256


def cache_folder(model_dir: Path | None) -> Path:
    """Where vectors are kept: beside the bundles, else `$XDG_CACHE_HOME/kairos/titles`, by default in `~/.cache`."""
    if model_dir is not None:
        return model_dir / ".titles"
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "kairos" / "titles"


class Library:
    """Reads titles as the back end called `name` does. A folder that cannot be used costs the cache alone."""

    def __init__(self, name: str, folder: Path, open_back_end: Callable[[str], BackEnd] = opened) -> None:
        self.name = name
        self._file = VectorFile(folder, name, WIDTH)
        self._open = open_back_end
        self._back_end: BackEnd | None = None
        self._told = False

    def vectors(self, titles: Sequence[str], tick: Callable[[int], object] = lambda _: None) -> F32:
        """Raw vectors f32[N, WIDTH], 0 for a title with nothing to read; `tick` hears how many more are done.

        Raises TextError.
        """
        keys, first, place = np.unique(keys_of(titles), return_index=True, return_inverse=True)
        there, distinct = self._kept(keys)
        missing = np.flatnonzero(~there & (keys != 0))
        tick(len(keys) - len(missing))
        for start in range(0, len(missing), BATCH):
            some = missing[start : start + BATCH]
            distinct[some] = self._read(keys[some], [titles[at] for at in first[some].tolist()])
            tick(len(some))
        found: F32 = distinct[place]
        return found

    def _read(self, keys: U64, titles: Sequence[str]) -> F32:
        """Vectors by the back end, kept on disk, and rounded as they are kept."""
        if self._back_end is None:
            self._back_end = self._open(self.name)
        vectors = self._back_end.embed(titles).astype(np.float16).astype(np.float32)
        try:
            self._file.put(keys, vectors)
        except OSError as error:
            self._tell(error)
        return vectors

    def _kept(self, keys: U64) -> tuple[Bools, F32]:
        try:
            return self._file.get(keys)
        except OSError as error:
            self._tell(error)
            return np.zeros(len(keys), np.bool_), np.zeros((len(keys), WIDTH), np.float32)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            log.warning("Vectors of titles are not kept on disk: %s", error)
