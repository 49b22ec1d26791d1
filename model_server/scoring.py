"""The seam between the worker and a ranker: what is scored, against which items, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from model_server.item_sums import ItemSums
    from model_server.text.at_hand import LiveTitles
    from streams.features.view import UserView

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Requests:
    """U users of one batch, as they are at the moment of scoring.

    users: ids, length U; view: their decayed rows; scene: u8[U, S] codes for the moment of sending, i.e. the stored
    scene with hour, weekday and holiday (the last three fields) taken at `now` in the user's own zone.
    """

    users: Sequence[str]
    view: UserView
    scene: U8


class ItemState(Protocol):
    """All M items a ranker may propose; an item keeps its index as long as the process lives, new ones are appended.

    The arrays are read-only views of the store. They change only between two calls of `begin` or `score`. `revision`
    grows whenever any of them did, `catalogue_revision` whenever anything but the counters did (ids, title, category,
    price, stock): caches of popularity lists and of title embeddings hang on these two numbers.
    """

    @property
    def ids(self) -> Sequence[str]: ...  # [M]
    @property
    def codes(self) -> U64: ...  # u64[M], streams.features.columns.item_code of the id
    @property
    def category(self) -> I32: ...  # i32[M], index into `categories`, -1 unknown
    @property
    def categories(self) -> Sequence[str]: ...
    @property
    def price(self) -> F32: ...  # f32[M] major units, NaN unknown
    @property
    def in_stock(self) -> Bools: ...  # bool[M]; true where the catalogue does not say
    @property
    def listed(self) -> Bools: ...  # bool[M]; false once the catalogue removed the item: never propose these
    @property
    def titles(self) -> Sequence[str]: ...  # [M], "" unknown; read by `model_server.text`
    @property
    def sums(self) -> ItemSums: ...  # counts of all M items, to be read as of any moment
    @property
    def revision(self) -> int: ...
    @property
    def catalogue_revision(self) -> int: ...

    def find(self, codes: U64) -> I32:
        """Index of each code, same shape, -1 where no such item is known."""


BASE = "base"
Because = Callable[[int, int], dict[str, float]]
"""Of user u and place k: what `final` is owed to, in logits, by part; with BASE, what is there before any, they sum to
the logit of `final` within 1e-3."""


def unexplained(_user: int, _place: int) -> dict[str, float]:
    """For rankers that cannot say."""
    return {}


@dataclass(frozen=True, slots=True)
class Scored:
    """The best K items of each of U users, best first; where a user has fewer, item = -1 and every number is 0.

    item: i32[U, K]; p_open, p_buy, p_optout, p_rec, p_best, p_anyway, final: f32[U, K] in 0..1, finite, `final` not
    increasing along K, `p_best` never above `p_rec`. grade: u8[U, K], indices of `model_server.heads.grades.NAMES`.
    propensity: f32[U, K], probability that this item was shown in this place by design (1 = no exploration).
    reasons: u32[U, K] bit mask over `reason_names` (bit 0 = first name): why the item was found and ranked here.
    tokens: what the batch needed; padded_tokens: what the device computed (>= tokens; both 0 where nothing is padded).
    because: see there; it costs a little, and is asked of what is sent alone.
    """

    item: I32
    p_open: F32
    p_buy: F32
    p_optout: F32
    p_rec: F32
    p_best: F32
    p_anyway: F32
    grade: U8
    final: F32
    propensity: F32
    reasons: U32
    reason_names: tuple[str, ...]
    retrieve_ms: float
    collate_ms: float
    forward_ms: float
    tokens: int = 0
    padded_tokens: int = 0
    because: Because = unexplained


class Weighed(NamedTuple):
    """Of U users and K items: logit f64[U, K] of `final`, lists bool[U, K, L]: which lists find the item."""

    logit: F64
    lists: Bools
    because: Because


class Ranker(Protocol):
    """Scores one batch at a time. Immutable after warm-up: the worker changes to another between two batches."""

    @property
    def version(self) -> str: ...  # of the bundle; enters the dedup key of every candidate

    def tokens(self, history: I64) -> I64:
        """Tokens each user would take, without padding, for i64[U] used history entries."""

    def begin(self, requests: Requests, items: ItemState, now_ms: int) -> Callable[[], Scored]:
        """Read all that is needed of the items, and return the rest of the work, which reads none of them.

        Synchronous and heavy, both: the worker calls each in a thread of its own, one call at a time, so that the next
        batch begins while the last one is scored.
        """

    def score(self, requests: Requests, items: ItemState, now_ms: int) -> Scored:
        """`begin` and the rest of it at once."""

    def weigh(self, requests: Requests, items: ItemState, now_ms: int, wanted: I32) -> Weighed:
        """Score the items `wanted` i32[K] for each user, found by a list or not, each user as if alone in its batch."""


class RankerSource(Protocol):
    """Where the worker gets its ranker: `model_server.bundle_watcher.BundleWatcher`.

    Before any bundle exists `current` is the blend ranker, so a worker never waits for a training.
    """

    def current(self) -> Ranker: ...

    def titles(self) -> LiveTitles | None:
        """Where the ranker in force expects the vectors of titles, None where it reads none."""

    def poll(self) -> str | None:
        """Look for a newer bundle, load and warm it; blocking, called in a thread between batches.

        The new version's name when `current` changed, None when there is nothing new. A bundle that cannot be loaded
        leaves the old ranker and raises once per version (LookupError | ValueError | OSError) a sentence saying why.
        """
