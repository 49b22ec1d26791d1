"""`kairos train --tensorboard FOLDER`: the curves of a training while it runs, and what it came to, for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_server.training.stages import Passed

NEEDED = ("tensorboard",)
MEANING = ("L", "logloss", "logloss best", "auc", "auc best", "ece", "ece best")
"""Figures of the heads, before and after calibration."""

GATE = ("ndcg", "ndcg_in_force", "ece", "ece_in_force")
"""What the gate of an incremental training went by."""


class Curves:
    """Event files of one training in a folder of its own below `folder`, called by the time it began."""

    def __init__(self, folder: Path, began: str) -> None:
        """Raises ModuleNotFoundError without tensorboard."""
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder / began
        self._writer = SummaryWriter(f"{self.folder}", flush_secs=5)

    def passed(self, passed: Passed) -> None:
        """A point on every curve of the stage; what was learned before an interruption is drawn again."""
        for name, value in (
            ("loss", passed.loss),
            ("NDCG@10 on valid", passed.valid),
            ("learning rate", passed.rate),
            ("gradient norm", passed.norm),
        ):
            self._point(f"{name}/{passed.stage}", value, passed.epoch)

    def finished(self, told: Mapping[str, Any], lines: Sequence[str], config: object) -> None:
        """What the report says, as figures and in words, and how it was trained."""
        for ranker, parts in told["rankers"].items():
            for part, metrics in parts.items():
                for name, value in metrics.items():
                    self._point(f"rankers {name} on {part}/{ranker}", value, 0)
        for when in ("uncalibrated", "calibrated"):
            for name, value in ((told["heads"] or {}).get(when) or {}).items():
                if name in MEANING:
                    self._point(f"heads {name}/{when}", value, 0)
        for name, value in told.get("incremental", {}).get("gate", {}).items():
            if name in GATE:
                self._point(f"gate {name}/incremental", value, 0)
        self._words("report", "\n\n".join(lines))
        self._words("settings", f"```\n{json.dumps(vars(config), default=str, indent=2)}\n```")
        self._writer.close()

    def _point(self, name: str, value: float | None, step: int) -> None:
        if value is not None and math.isfinite(value):
            self._writer.add_scalar(_tag(name), value, step)

    def _words(self, name: str, text: str) -> None:
        self._writer.add_text(name, text)


def _tag(name: str) -> str:
    """TensorBoard knows letters, digits and -_./ alone, and says so of every other sign."""
    return "".join(sign if sign.isalnum() or sign in "-_./" else "_" for sign in name)
