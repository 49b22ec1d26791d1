"""Tells which lines of a log came before, in eight bytes a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Twins:
    """All lines so far by 64 bits of each: of 10^8 different lines a pair is taken for twins once in 4,000 logs."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def among(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """True for every one of the next lines that equals an earlier one, of these or of those before."""
        import numpy as np

        twin = np.ones(len(hashes), np.bool_)
        twin[np.unique(hashes, return_index=True)[1]] = False
        for run in self._runs:
            twin |= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] == hashes
        if not twin.all():
            self._keep(np.sort(hashes[~twin]))
        return twin

    def _keep(self, run: NDArray[np.uint64]) -> None:
        """Runs shrink by half at least from one to the next, so that there are few and each is merged few times."""
        import numpy as np

        self._runs.append(run)
        while len(self._runs) > 1 and 2 * len(self._runs[-1]) > len(self._runs[-2]):
            self._runs[-2:] = [np.sort(np.concatenate(self._runs[-2:]), kind="stable")]
