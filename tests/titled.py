"""A back end that needs no package: a title is the sum of its words, each a direction of its own."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.titles import TitleVectors
from model_server.text.at_hand import RecordedTitles
from model_server.text.library import WIDTH, Library
from model_server.text.projection import fitted
from model_server.training.recorded import Recorded

NAME = "words-1"
ADJECTIVES, THINGS = ("red", "blue", "old", "warm", "tiny"), ("kettle", "scarf", "lamp", "clock", "mug", "rug", "vase")


class Words:
    """Counts what it reads."""

    def __init__(self, name: str = NAME) -> None:
        self.name, self.width = name, WIDTH
        self.read: list[str] = []

    def embed(self, titles: Sequence[str]) -> NDArray[np.float32]:
        self.read += titles
        sums = np.array([np.sum([_direction(word) for word in title.lower().split()], axis=0) for title in titles])
        unit: NDArray[np.float32] = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
        return unit


def _direction(word: str) -> NDArray[np.float64]:
    seed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
    drawn: NDArray[np.float64] = np.random.default_rng(seed).normal(size=WIDTH)
    return drawn


def library(folder: Path, words: Words | None = None) -> Library:
    """A library whose back end is this."""
    reader = words or Words()
    return Library(reader.name, folder, lambda _: reader)


def title(n: int) -> str:
    """The title of the n-th item: an adjective and a thing."""
    return f"{ADJECTIVES[n % len(ADJECTIVES)]} {THINGS[n // len(ADJECTIVES) % len(THINGS)]}"


def titles_of(log: Recorded, folder: Path, width: int = 16) -> RecordedTitles:
    """Vectors of a log's items under titles of their own; every seventh item has none."""
    raw = library(folder).vectors([title(n) if n % 7 else "" for n in range(len(log.item_ids))])
    projection = fitted(NAME, raw, width)
    return RecordedTitles(projection, TitleVectors(projection.of(raw), log.known_ms))
