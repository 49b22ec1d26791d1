"""One batch through the ranker: prepared as columns, scored in threads, and split where one user's row breaks it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar, TypeVarTuple

from model_server.batcher import Batch, Waiting
from model_server.facts import Person, scene_now
from model_server.items import ItemStore
from model_server.metrics import ModelMetrics
from model_server.policy.decide import Ending
from model_server.scoring import ItemState, Ranker, Requests, Scored
from schemas.decisions import Step
from streams.features.calendar import Calendar
from streams.features.rows import Layout
from streams.features.view import UserView, user_view

A = TypeVarTuple("A")
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """Users as the ranker takes them, at the time they are scored for."""

    users: Sequence[Waiting[Person]]
    requests: Requests
    now_ms: int

    def half(self, part: slice) -> "Prepared":
        """Some of the users."""
        requests = self.requests
        view = UserView._make(column[part] for column in requests.view)
        return replace(
            self, users=self.users[part], requests=Requests(requests.users[part], view, requests.scene[part])
        )


@dataclass(frozen=True)
class Forwarded:
    """Users and their scores, None where the ranker cannot take them, and the version that scored."""

    prepared: Prepared
    scored: Scored | None
    version: str


def prepare(layout: Layout, calendar: Calendar, users: Sequence[Waiting[Person]], now_ms: int) -> Prepared:
    """Unpack the rows and see them as of `now_ms`; those of like length stand together, as the ranker splits them."""
    users = sorted(users, key=lambda user: user.tokens)
    view = user_view(layout, layout.unpack([user.person.row for user in users]), now_ms)
    scene = scene_now(layout.declaration, calendar, view, now_ms)
    return Prepared(users, Requests([user.lease.user.decode() for user in users], view, scene), now_ms)


@dataclass(frozen=True)
class Begun:
    """A batch whose candidates are found: the rest of the work, or why there is none."""

    ranker: Ranker
    batch: Batch[Person]
    prepared: Prepared
    rest: Callable[[], Scored] | None
    error: Exception | None = None


class Forward:
    """Two threads: in one a batch begins, in the other the batch before it is scored."""

    def __init__(self, items: ItemStore, metrics: ModelMetrics, clock: Callable[[], int]) -> None:
        self._items, self._metrics, self._clock = items, metrics, clock
        self._beginning, self._scoring = ThreadPoolExecutor(1, "begin"), ThreadPoolExecutor(1, "score")
        self._reading = asyncio.Lock()
        self._since_ms: dict[ThreadPoolExecutor, int] = {}

    @property
    def since_ms(self) -> int | None:
        """Since when the work that is longest under way is, None where nothing is."""
        return min(self._since_ms.values(), default=None)

    def close(self) -> None:
        """Start nothing more."""
        for thread in (self._beginning, self._scoring):
            thread.shutdown(wait=False)

    async def begin(self, ranker: Ranker, batch: Batch[Person], prepared: Prepared) -> Begun:
        """Find what a batch needs, with the items as they are now."""
        async with self._reading:
            self._items.advance()  # Only here: under this lock no thread reads the arrays yet.
            return await self._run(self._beginning, _begin, ranker, self._items.arrays, batch, prepared)

    async def finish(self, begun: Begun) -> list[Forwarded]:
        """Score a batch; where that fails, score its halves, down to the users that the ranker cannot take.

        Raises what the ranker raised when it can take none of several: then the fault is not a user's.
        """
        scored, error = None, begun.error
        if begun.rest is not None:
            try:
                scored = await self._run(self._scoring, begun.rest)
            except Exception as failed:
                error = failed
        if scored is not None:
            self._metrics.batch_scored(begun.batch, scored)
            return [Forwarded(begun.prepared, scored, begun.ranker.version)]
        async with self._reading:
            parts = await self._run(self._beginning, _halves, begun.ranker, self._items.arrays, begun.prepared, error)
        if len(begun.prepared.users) > 1 and all(part.scored is None for part in parts) and error is not None:
            raise error
        return parts

    async def _run(self, thread: ThreadPoolExecutor, work: Callable[[*A], T], *arguments: *A) -> T:
        self._since_ms[thread] = self._clock()
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
        finally:
            del self._since_ms[thread]


def _begin(ranker: Ranker, items: ItemState, batch: Batch[Person], prepared: Prepared) -> Begun:
    try:
        return Begun(ranker, batch, prepared, ranker.begin(prepared.requests, items, prepared.now_ms))
    except Exception as error:
        return Begun(ranker, batch, prepared, None, error)


def _halves(ranker: Ranker, items: ItemState, prepared: Prepared, error: Exception | None) -> list[Forwarded]:
    n = len(prepared.users)
    if n == 1:
        log.error("The ranker %s cannot take user %s", ranker.version, prepared.requests.users[0], exc_info=error)
        return [Forwarded(prepared, None, ranker.version)]
    parts: list[Forwarded] = []
    for half in (prepared.half(slice(0, n // 2)), prepared.half(slice(n // 2, n))):
        try:
            scored = ranker.score(half.requests, items, half.now_ms)
        except Exception as inner:
            parts += _halves(ranker, items, half, inner)
        else:
            parts.append(Forwarded(half, scored, ranker.version))
    return parts


def unscorable(user: Waiting[Person]) -> Ending:
    """The end of a user whom the ranker cannot take."""
    return Ending("refused", [*user.person.admission.steps, Step("score", "ranker_failed", passed=False)])
