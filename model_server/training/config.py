"""How a training is done; one default serves every log."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from model_server.text.back_end import Wish
from model_server.text.projection import Projection
from model_server.training.cascade import HeadSettings
from model_server.training.mixed import Wish as Numbers
from model_server.training.requests import Split
from model_server.training.stages import StageSettings

DAY_MS = 86_400_000


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training; the stages' own come from the recipe.

    `lists`, `valid`, `test`: most requests of each kind, the newest ones. `renewals`: how often in all co-visited items
    are built anew while examples are made (but not more than daily). `words`: events an item needs for a trained id.
    `precision`: numbers of the fit alone; valid is scored, and the heads are fitted, in float32.
    `threads`: of torch, 0 for as many as cores are idle; equal numbers bit for bit need an equal count of them.
    `text`: the back end for titles; `projection`: that of a bundle at hand, by which titles are read as it reads them;
    `model_dir`: where vectors of titles are kept.
    """

    seed: int = 0
    split: Split = field(default_factory=Split)
    lists: int = 14_000
    valid: int = 3_000
    test: int = 20_000
    width: int = 80
    history: int = 50
    words: int = 5
    renewals: int = 24
    refresh_ms: int = 60_000
    profiles_ms: int = 3_600_000
    hidden: int = 64
    target: tuple[str, ...] = ()
    linear: StageSettings = field(default_factory=lambda: StageSettings(rate=0.02, passes=3))
    net: StageSettings = field(default_factory=lambda: StageSettings(rate=2e-3, passes=6, steps=1_200, decay=0.02))
    encoder: StageSettings | None = field(
        default_factory=lambda: StageSettings(rate=1e-3, passes=3, decay=0.02, slower=0.2)
    )
    heads: HeadSettings = field(default_factory=HeadSettings)
    device: str = "auto"
    precision: Numbers = "auto"
    threads: int = 0
    text: Wish = "none"
    projection: Projection | None = None
    model_dir: Path | None = None

    @property
    def quick(self) -> TrainConfig:
        """The same within seconds: fewer and shorter lists, fewer passes; for a demo."""
        return replace(
            self,
            lists=2_400,
            valid=500,
            test=1_000,
            width=60,
            renewals=4,
            refresh_ms=300_000,
            hidden=32,
            linear=replace(self.linear, passes=3),
            net=replace(self.net, passes=5, steps=0),
            encoder=None if self.encoder is None else replace(self.encoder, passes=1),
        )

    def renew_every_ms(self, span_ms: int) -> int:
        """Pause between two renewals of the co-visited items over a span of examples."""
        return max(DAY_MS, span_ms // max(self.renewals, 1))
