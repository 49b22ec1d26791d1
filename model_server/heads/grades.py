"""The three grades of a candidate, and the cascade of chances they are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.heads.logistic import sigmoid
from schemas.recommendations import Grade

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

NAMES: tuple[Grade, ...] = ("not_recommended", "recommended", "best_match")
NOT_RECOMMENDED, RECOMMENDED, BEST_MATCH = range(3)
LOOKED, TAKEN = 0.5, 1.0
"""What a grade was worth where it is observed: a click or long look, and a cart or purchase."""


class Chances(NamedTuple):
    """Chances of the cascade, any shape: `rec` that the user acts on the candidate, `best` that it is a strong act."""

    rec: NDArray[np.floating]
    best: NDArray[np.floating]

    @property
    def expected(self) -> NDArray[np.floating]:
        """Expected relevance in 0..1, where acting is worth a half and a strong act one."""
        return LOOKED * self.rec + (TAKEN - LOOKED) * self.best


def cascade(first: NDArray[np.floating], second: NDArray[np.floating]) -> Chances:
    """s(z1) and s(z1) s(z2): whatever the logits, the best is never likelier than the recommended."""
    rec = sigmoid(first)
    return Chances(rec, rec * sigmoid(second))


@dataclass(frozen=True)
class Cutoffs:
    """A candidate is Recommended from the chance `recommended` of an act on, Best Match from `best` of a strong one.

    The defaults are those of a shop that never trained: one act in fifty pushes, as the least score of a push has
    always been, and one strong act in fifty. A training cuts where a candidate is so many times likelier than one drawn
    from the list at random.
    """

    recommended: float = 0.02
    best: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.recommended <= 1 or not 0 < self.best <= 1:
            message = f"cut-offs {self.recommended}, {self.best} are no chances above 0"
            raise ValueError(message)

    def grade(self, chances: Chances) -> U8:
        """Codes u8 of the grades, indices of `NAMES`; a Best Match is Recommended too."""
        recommended = chances.rec >= self.recommended
        return np.where(recommended & (chances.best >= self.best), BEST_MATCH, recommended).astype(np.uint8)


def number(grade: str) -> int:
    """The code of a grade by its name; raises ValueError with a part of a sentence."""
    if grade not in NAMES:
        message = f"is none of {', '.join(NAMES)}"
        raise ValueError(message)
    return NAMES.index(grade)
