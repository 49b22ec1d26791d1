"""Means by the values of a scene field, and those values in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streams.features.declaration import Declaration

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
FEW = 20
"""Groups of fewer requests are not told apart."""


def by_value(declaration: Declaration, scene: U8, field: str, of: Mapping[str, F64]) -> dict[str, dict[str, Any]]:
    """Means of f64[N] of each name under each value of a field that enough of N requests have; scene u8[N, S].

    value -> {"requests": how many, name: mean}; requests whose value is unknown are left out.
    """
    codes = scene[:, declaration.scene_names.index(field)]
    table = {}
    for code in np.unique(codes[codes > 0]).tolist():
        part = codes == code
        if (requests := int(part.sum())) >= FEW:
            means = {name: float(values[part].mean()) for name, values in of.items()}
            table[word_of(declaration, field, code)] = {"requests": requests, **means}
    return table


def word_of(declaration: Declaration, field: str, code: int) -> str:
    """A value of a scene field in words; of a hashed one only the number of its bucket is known."""
    if field == "hour":
        return f"{code - 1:02d}"
    values = next((f.values for f in declaration.scene if f.name == field), ())
    return values[code - 1] if code <= len(values) else f"#{code - len(values)}"
