"""What users really did within a window after a moment: the grade of a candidate (P_obs), and who came back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.before import Before
from model_server.heads.grades import LOOKED, TAKEN
from streams.features.declaration import BROWSE

if TYPE_CHECKING:
    from model_server.training.recorded import Recorded
    from streams.features.declaration import Declaration, Kind

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

LONG_MS = 10_000
"""From so long a look on a browse says something; one whose length is not told does too."""
PUSHED, OPENED, OPTED_OUT = "pushed", "opened", "opted_out"
"""Names of the kinds that a push gateway reports by; a declaration without one leaves that head its prior."""


def strength(kind: Kind) -> float:
    """What doing it is worth: 1 for a strong act on an item, 0.5 for another one, 0 for what is no act on an item."""
    if not (kind.active and kind.item):
        return 0.0
    return TAKEN if kind.strong else LOOKED


def light(kind: Kind) -> bool:
    """Whether it counts only where it took long: a kind that rescores its user no more urgently than a browse."""
    return not kind.strong and (kind.priority is None or kind.priority >= BROWSE)


class Observed:
    """Look-ups in a log, in which an act counts for every moment up to `window_ms` before it."""

    def __init__(self, recorded: Recorded, declaration: Declaration, window_ms: int) -> None:
        columns, kinds = recorded.columns, declaration.kinds
        worth = np.array([strength(kind) for kind in kinds])[columns.kind]
        brief = np.array([light(kind) for kind in kinds])[columns.kind] & (columns.dwell_ms > 0)
        worth[brief & (columns.dwell_ms < LONG_MS)] = 0
        self.window_ms = window_ms
        self._items = max(len(recorded.item_ids), 1)
        key = recorded.user * self._items + recorded.item
        self._any, self._strong = (
            Before(key[worth >= least], columns.ts_ms[worth >= least]) for least in (LOOKED, TAKEN)
        )
        able = np.array([kind.active and kind.item for kind in kinds])[columns.kind]
        self._acts = Before(recorded.user[able], columns.ts_ms[able])
        self.last_ms = int(columns.ts_ms[-1]) if len(columns.ts_ms) else 0
        self._of_kind = {
            name: _of_kind(recorded, declaration, name, self._items) for name in (PUSHED, OPENED, OPTED_OUT)
        }

    def grades(self, user: I64, now_ms: I64, item: NDArray[np.int32]) -> F32:
        """P_obs f32[N, C] of candidates i32[N, C] of users i64[N], for acts from their moments i64[N] on; 0 for -1."""
        key = np.where(item >= 0, user[:, None] * self._items + item, -1)
        end_ms = now_ms[:, None] + self.window_ms
        acted, strongly = (acts.count(key, end_ms, self.window_ms) > 0 for acts in (self._any, self._strong))
        return np.where(strongly, TAKEN, np.where(acted, LOOKED, 0.0)).astype(np.float32)

    def came(self, user: I64, now_ms: I64) -> NDArray[np.bool_]:
        """Whether each user did anything with an item after the moment and within the window."""
        return self._acts.count(user, now_ms + self.window_ms + 1, self.window_ms) > 0

    def pushed(self, user: I64, now_ms: I64) -> NDArray[np.bool_]:
        """Whether the user got a push from the moment on and within the window."""
        return self._of_kind[PUSHED][0].count(user, now_ms + self.window_ms, self.window_ms) > 0

    def opened(self, user: I64, item: I64, now_ms: I64) -> NDArray[np.bool_]:
        """Whether the user opened a push of the item within the window."""
        key = user * self._items + item
        return self._of_kind[OPENED][1].count(key, now_ms + self.window_ms, self.window_ms) > 0

    def opted_out(self, user: I64, now_ms: I64) -> NDArray[np.bool_]:
        """Whether the user wanted no more pushes within the window."""
        return self._of_kind[OPTED_OUT][0].count(user, now_ms + self.window_ms, self.window_ms) > 0

    def complete(self, now_ms: I64, until_ms: int | None = None) -> NDArray[np.bool_]:
        """Which moments' windows are over at `until_ms` (at the end of the log): only their outcomes are known.

        All, where that leaves fewer than half: a short log cannot wait.
        """
        over = now_ms + self.window_ms <= (self.last_ms if until_ms is None else until_ms)
        return over if 2 * over.sum() >= len(over) else np.ones(len(now_ms), np.bool_)


def of_kind(recorded: Recorded, declaration: Declaration, name: str) -> I64:
    """Positions in the log of the events of a kind; none where it is not declared."""
    return np.flatnonzero(recorded.columns.kind == declaration.code(name)) if declaration.code(name) >= 0 else _NONE


_NONE = np.empty(0, np.int64)


def _of_kind(recorded: Recorded, declaration: Declaration, name: str, items: int) -> tuple[Before, Before]:
    """The happenings of a kind by user, and by user and item."""
    at = of_kind(recorded, declaration, name)
    user, ts_ms = recorded.user[at], recorded.columns.ts_ms[at]
    return Before(user, ts_ms), Before(user * items + recorded.item[at], ts_ms)
