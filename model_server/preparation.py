"""From users' rows to a batch a ranker can score: find, count, look up trained ids; the same live and in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model_server.counters.batch import CountedBatch, PastTokens
from model_server.counters.counters import Counters
from model_server.counters.items import Seen
from model_server.counters.numbered import Numbered
from model_server.retrieval.lifts import Lifts
from model_server.retrieval.neighbours import Mapped, Neighbours
from model_server.retrieval.pairs import F32, I32, I64
from model_server.retrieval.retriever import Quotas, Retrieved, Retriever
from model_server.retrieval.shared import Shared
from streams.features.columns import item_code

if TYPE_CHECKING:
    from model_server.scoring import ItemState
    from model_server.text.at_hand import Titles
    from streams.features.declaration import Declaration
    from streams.features.view import UserView

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
Look = Callable[[Numbered], Seen]
"""What is seen of candidates i32[B, C] as of each user's moment."""

CATEGORY_BUCKETS = 255
AGES = 32


@lru_cache(maxsize=100_000)
def category_bucket(name: str) -> int:
    """A number 1..255 for a category's name, the same in every process."""
    return 1 + item_code(name) % CATEGORY_BUCKETS


@dataclass(frozen=True)
class Known:
    """What the model knows of the M items at hand: word i32[M] (trained id), category bucket i32[M]; 0 for none."""

    revision: tuple[int, int]
    looked_up: int
    word: I32
    category: I32
    neighbours: Mapped


class Preparation:
    """Prepares batches under one declaration, one set of trained ids `words` u64[V] (sorted) and of neighbours.

    `titles`: the vectors of the items' titles; without them there are neither lists nor counters of titles.
    """

    def __init__(
        self,
        declaration: Declaration,
        words: U64,
        neighbours: Neighbours,
        quotas: Quotas | None = None,
        history: int = 50,
        titles: Titles | None = None,
    ) -> None:
        self.declaration = declaration
        self.titles = titles
        self.retriever = Retriever(declaration, quotas, titles=titles is not None)
        self.counters = Counters(declaration, self.retriever.names)
        self.words = words
        self.neighbours = neighbours
        self.history = history
        self._known: Known | None = None
        self._of: ItemState | None = None
        self._hour = declaration.scene_names.index("hour")

    def renew(self, neighbours: Neighbours) -> None:
        """Serve other neighbours from now on."""
        self.neighbours = neighbours
        self._known = None

    def known(self, items: ItemState) -> Known:
        """Trained ids and neighbours of the items at hand; looked up anew when their number grew by a hundredth.

        Until then a new item counts as untrained, which it nearly always is. Of another store, which numbers its items
        otherwise, as after a promotion, nothing is known yet.
        """
        if items is not self._of:
            self._of, self._known = items, None
        count, held = len(items.codes), self._known
        if held is None or _grew(held.looked_up, count):
            mapped = Mapped.of(self.neighbours, items.find(self.neighbours.codes), count)
            held = self._known = Known(
                (-1, -1), count, words_of(self.words, items.codes), np.empty(0, np.int32), mapped
            )
        revision = (items.catalogue_revision, count)
        if held.revision != revision:
            buckets = np.array([*map(category_bucket, items.categories), 0], np.int32)
            word = np.pad(held.word, (0, count - len(held.word)))
            held = self._known = Known(
                revision, held.looked_up, word, buckets[items.category], held.neighbours.grown(count)
            )
        return held

    def find(
        self,
        view: UserView,
        scene: U8,
        now_ms: I64,
        items: ItemState,
        shared: Sequence[Shared],
        explored: I32 | None = None,
    ) -> Retrieved:
        """Candidates of B users; `shared`: popularity lists of each user's moment, length B."""
        titles = None if self.titles is None else self.titles.at(items)
        return self.retriever.find(view, scene, now_ms, items, shared, self.known(items).neighbours, explored, titles)

    def batch(self, view: UserView, scene: U8, items: ItemState, found: Retrieved, look: Look) -> CountedBatch:
        """Counters and codes of what `find` found, with item views from `look`."""
        known = self.known(items)
        item = found.candidates.item
        numbered = Numbered.of(item, len(items.codes))
        return CountedBatch(
            item=item,
            word=numbered.each(known.word, 0),
            category=numbered.each(known.category, 0),
            counters=self.counters(view, scene, found, numbered, look(numbered), items, known.neighbours),
            near=found.candidates.near,
            past=self._past(found, known, scene),
            windows=np.log1p(view.windows).astype(np.float32).transpose(0, 2, 1).copy(),
            scene=scene,
        )

    def _past(self, found: Retrieved, known: Known, scene: U8) -> PastTokens:
        past = found.own.past
        cut = slice(0, self.history)
        item, age_s = past.item[:, cut], past.age_s[:, cut]
        hours = scene[:, self._hour].astype(np.int64)[:, None]
        hour = np.where(hours > 0, 1 + (hours - 1 - (age_s // 3600).astype(np.int64)) % 24, 0)
        return PastTokens(
            item=item,
            word=_of_item(known.word, item),
            category=_of_item(known.category, item),
            kind=past.kind[:, cut],
            age=np.minimum(np.log2(1 + age_s), AGES - 1).astype(np.uint8),
            hour=hour.astype(np.uint8),
            valid=past.valid[:, cut],
        )


def words_of(words: U64, codes: U64) -> I32:
    """Trained id 1..V of each item code among the sorted `words` u64[V], 0 for none."""
    if len(words) == 0:
        return np.zeros(len(codes), np.int32)
    at = np.minimum(np.searchsorted(words, codes), len(words) - 1)
    return np.where(words[at] == codes, at + 1, 0).astype(np.int32)


def _of_item(table: I32, item: I32) -> I32:
    """`table` at the items, 0 for none."""
    if not len(table):
        return np.zeros(item.shape, np.int32)
    return np.where(item >= 0, table[item], np.int32(0))


def look_now(items: ItemState, now_ms: int) -> Look:
    """The store as it is, each item seen once for all users."""
    return lambda numbered: Seen(items.sums, numbered.distinct, numbered.distinct, now_ms, numbered.number)


class Freshness:
    """Keeps the shared lists of the moment: counts at most `refresh_ms` old, scene profiles and what is made
    of them at most `profiles_ms`.
    """

    def __init__(self, declaration: Declaration, refresh_ms: int, profiles_ms: int = 1_800_000) -> None:
        self._declaration = declaration
        self._refresh_ms = refresh_ms
        self._profiles_ms = profiles_ms
        self._shared: Shared | None = None
        self._profiles: tuple[F32, Lifts] | None = None
        self._profiles_at_ms = 0
        self._of: ItemState | None = None

    def at(self, items: ItemState, now_ms: int) -> Shared:
        """Lists of `items` at `now_ms`; those of another store are of no use, for it numbers its items otherwise."""
        if items is not self._of:
            self._of, self._shared, self._profiles = items, None, None
        shared = self._shared
        if shared is None or _old(shared.now_ms, now_ms, self._refresh_ms) or _grew(shared.size, len(items.codes)):
            shared = self._shared = Shared(self._declaration, items, now_ms, *self._profiles_of(items, now_ms))
        return shared

    def _profiles_of(self, items: ItemState, now_ms: int) -> tuple[F32, Lifts]:
        held = self._profiles
        if held is None or _old(self._profiles_at_ms, now_ms, self._profiles_ms):
            profiles = items.sums.profile(now_ms)
            lifts = Lifts(self._declaration, profiles, items.category, len(items.categories))
            held, self._profiles_at_ms = (profiles, lifts), now_ms
            self._profiles = held
        return held


def _grew(before: int, now: int) -> bool:
    """Whether the number of items grew by more than a hundredth: worth looking all of them up again."""
    return not before <= now <= before + before // 100


def _old(then_ms: int, now_ms: int, limit_ms: int) -> bool:
    return not 0 <= now_ms - then_ms < limit_ms
