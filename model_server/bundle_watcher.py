"""The bundle that a worker serves with: what `current` names, changed while it works if another one can serve."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from model_server.blend_ranker import BlendRanker
from model_server.bundle import load, ranker_of, titles_of
from model_server.model_folder import CURRENT, current_version

if TYPE_CHECKING:
    from model_server.scoring import Ranker
    from model_server.text.at_hand import LiveTitles
    from model_server.text.back_end import Wish
    from streams.features.declaration import Declaration

AGAIN_S = 60.0
Files = tuple[tuple[str, int, int, int, int], ...]
"""Name, inode, bytes, and times of the last change of each file and of its owner and rights, in nanoseconds."""


class BundleWatcher:
    """Where the worker gets its ranker: the blend before any bundle, then whatever `current` names, if it can serve."""

    def __init__(
        self,
        folder: Path | None,
        declaration: Declaration,
        device: str = "auto",
        text: Wish = "auto",
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._declaration = declaration
        self._device, self._text = device, text
        self._titles: LiveTitles | None = None
        self._clock_s = clock_s
        self._refused = Refused()
        self._current: Ranker = BlendRanker.untrained(declaration)

    def current(self) -> Ranker:
        """The ranker to score the next batch with."""
        return self._current

    def titles(self) -> LiveTitles | None:
        """Where that ranker expects the vectors of titles, None where it reads none."""
        return self._titles

    def poll(self) -> str | None:
        """Load and warm the version that `current` names, if it is another one; its name, None when nothing changed.

        A version that cannot serve leaves the old ranker in place. It is tried again when its files change, and every
        AGAIN_S: what was missing may be mended elsewhere. Its reason is raised once: BundleError, or OSError where the
        folder cannot be read.
        """
        if self._folder is None:
            return None
        refused, files, now_s = self._refused, _files(self._folder), self._clock_s()
        if files == refused.files and now_s < refused.until_s:
            return None
        try:
            version = current_version(self._folder)
            if version in (None, self._current.version):
                self._refused = Refused()
                return None
            bundle = load(self._folder, version, self._declaration)
            titles = titles_of(bundle, self._text)
            self._current = ranker_of(bundle, self._declaration, self._device, titles)
            self._titles = titles
        except Exception as error:
            self._refused = Refused(files, now_s + AGAIN_S, str(error))
            if str(error) == refused.why:
                return None
            raise
        self._refused = Refused()
        return version


class Refused(NamedTuple):
    """What could not serve: how its files looked, when to try them again anyway, and why it could not."""

    files: Files = ()
    until_s: float = 0.0
    why: str = ""


def _files(folder: Path) -> Files:
    """How `current` and the files of the version that it names look from outside: equal while nobody touches them."""
    try:
        version = current_version(folder) or ""
        paths = [folder / CURRENT, *sorted((folder / version).iterdir())] if version else []
        looks = [(str(path), path.stat()) for path in paths]
    except (OSError, ValueError) as error:
        return ((str(error), 0, 0, 0, 0),)
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in looks)
