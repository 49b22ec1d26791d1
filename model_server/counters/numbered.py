"""The distinct items of a batch, numbered, so that what is known of a candidate is read from a table, not searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from model_server.retrieval.pairs import I32, I64

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model_server.retrieval.pairs import Pairs

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Columns i32[B, C], -1 for none, with their distinct ones i32[R], sorted, and number i64[B, C] in it, R for none.

    `_number_of` i32[width + 1] holds numbers at the distinct columns and rubbish elsewhere: a number is believed where
    the column that has it says so (Briggs & Torczon 1993, An efficient representation for sparse sets). So nothing as
    wide as all items is ever written or read. `_cell` i64[B * C] is the place of each column in a table [B, R + 1].
    """

    column: I32
    distinct: I32
    number: I64
    _number_of: I32
    _cell: I64

    @classmethod
    def of(cls, column: I32, width: int) -> Numbered:
        """Numbers of columns below `width`."""
        flat, place = column.reshape(-1), np.arange(column.size, dtype=np.int32)
        number_of = np.empty(width + 1, np.int32)
        number_of[flat] = place  # Of those with the same column one stays; -1 writes the last, which is no column.
        distinct = np.sort(flat[(number_of[flat] == place) & (flat >= 0)])
        number_of[distinct] = np.arange(len(distinct), dtype=np.int32)
        number_of[-1] = len(distinct)
        number = number_of[flat].astype(np.int64).reshape(column.shape)
        cell = number + (len(distinct) + 1) * np.arange(len(column))[:, None]
        return cls(column, distinct, number, number_of, cell.reshape(-1))

    def each(self, table: NDArray[T], none: float) -> NDArray[T]:
        """`table` [width] at the columns, [B, C]; `none` where there is none."""
        return np.append(table[self.distinct], table.dtype.type(none))[self.number]

    def look_up(self, pairs: Pairs) -> tuple[I64, I64]:
        """(place, pair), i64[K] each: which flat places of the columns have a pair of their own user, and which."""
        users, none = len(self.column), len(self.distinct)
        number = np.minimum(self._number_of[pairs.column].view(np.uint32), none)
        asked = np.flatnonzero(np.append(self.distinct, np.int32(-1))[number] == pairs.column)
        table = np.full((users, none + 1), -1, np.int32)
        table[pairs.user[asked], number[asked]] = asked
        pair = np.take(table, self._cell)
        place = np.flatnonzero(pair >= 0)
        return place, pair[place].astype(np.int64)
