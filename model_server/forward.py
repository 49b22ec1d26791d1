"""One batch through the ranker: prepared as columns, scored in the thread, and split where one user's row breaks it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from model_server.batcher import Batch, Waiting
from model_server.facts import Person, scene_now
from model_server.metrics import ModelMetrics
from model_server.policy.decide import Ending
from model_server.scoring import ItemState, Ranker, Requests, Scored
from schemas.decisions import Step
from streams.features.calendar import Calendar
from streams.features.rows import Layout
from streams.features.view import UserView, user_view

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
    """Unpack the rows and see them as of `now_ms`."""
    view = user_view(layout, layout.unpack([user.person.row for user in users]), now_ms)
    scene = scene_now(layout.declaration, calendar, view, now_ms)
    return Prepared(users, Requests([user.lease.user.decode() for user in users], view, scene), now_ms)


def forward(
    ranker: Ranker, items: ItemState, batch: Batch[Person], prepared: Prepared, metrics: ModelMetrics
) -> list[Forwarded]:
    """Score a batch; where that fails, score its halves, down to the users that the ranker cannot take.

    Raises what the ranker raised when it can take none of several: then the fault is not a user's.
    """
    start_s = perf_counter()
    try:
        scored = ranker.score(prepared.requests, items, prepared.now_ms)
    except Exception as error:
        parts = _halves(ranker, items, prepared, error)
        if len(prepared.users) > 1 and all(part.scored is None for part in parts):
            raise
        return parts
    metrics.batch_scored(batch, scored, perf_counter() - start_s)
    return [Forwarded(prepared, scored, ranker.version)]


def _halves(ranker: Ranker, items: ItemState, prepared: Prepared, error: Exception) -> list[Forwarded]:
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
