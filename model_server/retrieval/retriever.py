"""From users to candidates: the lists of each user, merged. Read this file first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.retrieval.merge import Candidates, Turns, distinct, merge
from model_server.retrieval.neighbours import Mapped
from model_server.retrieval.own import Own, read_own, read_past
from model_server.retrieval.pairs import F32, I32, I64, Bools, Pairs
from model_server.retrieval.shared import Shared
from model_server.retrieval.titles import TITLES, TitleVectors, like_titles

if TYPE_CHECKING:
    from model_server.scoring import ItemState
    from streams.features.declaration import Declaration
    from streams.features.view import UserView

OWN_RECENT, OWN_COUNT, OWN_OFTEN = "own recent", "own count", "own often"
COVISITED, SESSIONS = "co-visited", "like sessions"
HOUR_OF_DAY, SCENE, CATEGORY, EXPLORED = "hour of day", "scene", "own categories", "explored"
TOP_CATEGORIES = 3


@dataclass(frozen=True)
class Quotas:
    """How many items each list may offer, and how many candidates a user gets in all."""

    candidates: int = 200
    own_recent: int = 40
    own_count: int = 50
    own_often: int = 40
    covisited: int = 50
    sessions: int = 40
    titles: int = 10
    hour_of_day: int = 15
    scene: int = 20
    category: int = 30
    windows: tuple[tuple[str, int], ...] = (("1h", 15), ("24h", 30), ("7d", 25))
    other_window: int = 20
    explored: int = 10

    def of_windows(self, declaration: Declaration) -> dict[str, int]:
        """Width of the list of each rolling window: the shortest has none, the longest fills what the others leave."""
        known = dict(self.windows)
        return {window.name: known.get(window.name, self.other_window) for window in declaration.windows[1:-1]}


class Retrieved(NamedTuple):
    """Candidates, and what finding them brought to light; the counters read it. `titles`: None where none are read.

    `shared`: the lists of each user's moment.
    """

    candidates: Candidates
    own: Own
    together: Pairs
    following: Pairs
    alike: Pairs
    shared: Sequence[Shared]
    titles: TitleVectors | None = None


class Retriever:
    """Finds candidates under one declaration; `names` are the lists, in the order of `Candidates.near`.

    `titles`: whether there is a list of items with titles like those of the user's own.
    """

    def __init__(self, declaration: Declaration, quotas: Quotas | None = None, *, titles: bool = False) -> None:
        self.declaration = declaration
        self.quotas = q = quotas or Quotas()
        self._windows = q.of_windows(declaration)
        self._fill = declaration.windows[-1].name
        widths = {
            OWN_RECENT: q.own_recent,
            OWN_COUNT: q.own_count,
            OWN_OFTEN: q.own_often,
            COVISITED: q.covisited,
            SESSIONS: q.sessions,
            **({TITLES: q.titles} if titles else {}),
            **self._windows,
            HOUR_OF_DAY: q.hour_of_day,
            SCENE: q.scene,
            CATEGORY: q.category,
            EXPLORED: q.explored,
        }
        self.names = (*widths, self._fill)
        self._turns = Turns(list(widths.values()), q.candidates)
        self._scene_fields = [(declaration.scene_names.index(f.name), f.name) for f in declaration.scene if f.profile]
        self._hour = declaration.scene_names.index("hour")

    def find(
        self,
        view: UserView,
        scene: NDArray[np.uint8],
        now_ms: I64,
        items: ItemState,
        shared: Sequence[Shared],
        neighbours: Mapped,
        explored: I32 | None = None,
        titles: TitleVectors | None = None,
    ) -> Retrieved:
        """Candidates of B users at now_ms i64[B]; `shared`: the popularity lists of each user's moment, length B.

        `explored` i32[B, E]: items to try on purpose, None for none. `titles`: those of all items, where they are read.
        """
        q = self.quotas
        past = read_past(view, now_ms, items.find(view.item), items.category)
        own = read_own(self.declaration, past, len(items.ids), len(items.categories), q.own_recent)
        together, following = neighbours.covisited(own.recent)
        alike = neighbours.like_sessions(own.recent)
        users = len(now_ms)
        named = [] if titles is None else [like_titles(titles, own.recent, now_ms, _new(shared, items), q.titles)]
        lists = [
            own.recent,
            own.items.top(users, own.items.values["d30"], q.own_count),
            own.items.top(users, own.items.values["n"] + _favour(own.items, shared), q.own_often),
            together.top(users, together.values["near"], q.covisited),
            alike.top(users, alike.values["score"], q.sessions),
            *named,
            *self._shared_lists(shared, scene, self._favourites(own, users)),
            _width(explored, users, q.explored),
            _window(shared, self._fill, q.candidates),
        ]
        offered = _offered(np.concatenate(lists, axis=1), items)
        return Retrieved(merge(offered, self._turns, q.candidates), own, together, following, alike, shared, titles)

    def _favourites(self, own: Own, users: int) -> I32:
        return own.categories.top(users, own.categories.values["d30"], TOP_CATEGORIES)

    def _shared_lists(self, shared: Sequence[Shared], scene: NDArray[np.uint8], favourites: I32) -> list[I32]:
        q = self.quotas
        return [
            *(_window(shared, name, width) for name, width in self._windows.items()),
            _field(shared, "hour", scene[:, self._hour], q.hour_of_day),
            self._scene_list(shared, scene),
            _interleaved_categories(shared, favourites, q.category),
        ]

    def _scene_list(self, shared: Sequence[Shared], scene: NDArray[np.uint8]) -> I32:
        """The lists of every known field of the scene, taken in turn."""
        width = self.quotas.scene
        codes = ((name, scene[:, column]) for column, name in self._scene_fields)
        parts = [_field(shared, name, code, width) for name, code in codes if code.any()]
        if not parts:
            return np.full((len(scene), width), -1, np.int32)
        return distinct(np.stack(parts, axis=2).reshape(len(scene), -1), width)


def _offered(block: I32, items: ItemState) -> I32:
    """The block without what may not be proposed."""
    if not len(items.listed):
        return block
    return np.where(np.take(items.listed, block) & np.take(items.in_stock, block), block, np.int32(-1))


def _window(shared: Sequence[Shared], name: str, width: int) -> I32:
    """The first `width` of the list of a rolling window, of each user's moment."""
    return _stacked([(moment,) for moment in shared], lambda moment: moment.window(name), width)


def _field(shared: Sequence[Shared], name: str, code: NDArray[np.uint8], width: int) -> I32:
    """The first `width` of the list under each user's code of a scene field, of each user's moment."""
    asked = list(zip(shared, code.tolist(), strict=True))
    return _stacked(asked, lambda moment, own: moment.field(name, own), width)


def _stacked(asked: Sequence[tuple[Any, ...]], find: Callable[..., I32], width: int) -> I32:
    """The lists found for what each of B users asks, as one block [B, width]; what is the same is found once."""
    number = {one: i for i, one in enumerate(dict.fromkeys(asked))}
    block = np.full((len(number), width), -1, np.int32)
    for row, one in zip(block, number, strict=True):
        part = find(*one)[:width]
        row[: len(part)] = part
    return block[[number[one] for one in asked]]


def _favour(pairs: Pairs, shared: Sequence[Shared]) -> F32:
    """Below one, the higher the more everybody did with the item in the longest window: it decides among equal counts.

    Most counts are equal to others, and a place in a list hides that: what decides there decides the ranking.
    """
    events = np.zeros(len(pairs.column), np.float32)
    for moment, users in _by_moment(shared):
        known = np.flatnonzero(users[pairs.user] & (pairs.column < moment.size))
        events[known] = moment.windows[pairs.column[known], -1]
    return (np.log1p(events) / 32).astype(np.float32)


def _by_moment(shared: Sequence[Shared]) -> Iterator[tuple[Shared, Bools]]:
    """Each moment, and whose it is: bool[B]."""
    for moment in dict.fromkeys(shared):
        yield moment, np.array([one is moment for one in shared])


def _new(shared: Sequence[Shared], items: ItemState) -> list[I32]:
    """The new items of each user's moment."""
    of_moment = {moment: moment.new(len(items.codes)) for moment in dict.fromkeys(shared)}
    return [of_moment[moment] for moment in shared]


def _interleaved_categories(shared: Sequence[Shared], favourites: I32, width: int) -> I32:
    each = width // favourites.shape[1]
    block = np.empty((len(favourites), favourites.shape[1], each), np.int32)
    for moment, users in _by_moment(shared):
        table = moment.by_category(each)
        block[users] = table[np.minimum(favourites[users], len(table) - 1)]
    return block.transpose(0, 2, 1).reshape(len(favourites), -1)


def _width(block: I32 | None, users: int, width: int) -> I32:
    whole = np.full((users, width), -1, np.int32)
    if block is not None:
        whole[:, : block.shape[1]] = block[:, :width]
    return whole
