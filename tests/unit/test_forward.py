"""A batch in its two threads: the next begins beside it, items stand still meanwhile, a bad row costs one user."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from model_server.batcher import Batch, Waiting
from model_server.forward import Forward, Prepared
from model_server.items import ItemStore
from model_server.metrics import ModelMetrics
from model_server.queue import Lease
from model_server.scoring import ItemState, Requests, Scored
from schemas.keys import Keys
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.features.view import user_view
from tests.affected import Popular

T = 1_800_000_000_000


class Rest(Popular):
    """Runs `during` at the end of every begin and `after` in the rest of the work, each with the users."""

    def __init__(self, during: Callable[[Any], None], after: Callable[[Any], None]) -> None:
        super().__init__()
        self.during, self.after = during, after

    def begin(self, requests: Requests, items: ItemState, now_ms: int) -> Callable[[], Scored]:
        scored = super().score(requests, items, now_ms)
        self.during(requests.users)

        def rest() -> Scored:
            self.after(requests.users)
            return scored

        return rest

    def score(self, requests: Requests, items: ItemState, now_ms: int) -> Scored:
        return self.begin(requests, items, now_ms)()


def nothing(_: Any) -> None:
    """Nothing happens here."""


def of(*users: str) -> tuple[Batch[Any], Prepared]:
    layout = Layout(DEFAULT)
    view = user_view(layout, layout.empty(len(users)), T)
    waiting: list[Waiting[Any]] = [Waiting(Lease(0, user.encode(), T * 4, 0), 20, T, None) for user in users]
    scene = np.zeros((len(users), len(DEFAULT.scene_names)), np.uint8)
    return Batch(waiting, "full"), Prepared(waiting, Requests(users, view, scene), T)


@pytest.fixture
def store() -> ItemStore:
    nobody: Any = None
    return ItemStore(nobody, Keys("forward"), 1, ItemLayout(DEFAULT))


@pytest.fixture
def forward(store: ItemStore) -> Forward:
    return Forward(store, ModelMetrics(CollectorRegistry(), DEFAULT.delays_ms), lambda: T)


async def test_the_next_batch_begins_while_one_is_scored(forward: Forward) -> None:
    second_began = threading.Event()
    waited: list[bool] = []

    def during(users: Any) -> None:
        if "b" in users:
            second_began.set()

    def after(users: Any) -> None:
        if "a" in users:
            waited.append(second_began.wait(10))

    ranker = Rest(during, after)
    first = await forward.begin(ranker, *of("a"))
    (part,), second = await asyncio.gather(forward.finish(first), forward.begin(ranker, *of("b")))
    assert (waited, part.scored is not None, forward.since_ms) == ([True], True, None)
    assert [p.scored is not None for p in await forward.finish(second)] == [True]


async def test_items_stand_still_while_a_batch_begins(forward: Forward, store: ItemStore) -> None:
    seen: list[tuple[int, int]] = []

    def during(users: Any) -> None:
        before = store.arrays.revision
        store._pending[users[0]] = (None, None)
        threading.Event().wait(0.05)
        seen.append((before, store.arrays.revision))

    ranker = Rest(during, nothing)
    await asyncio.gather(*(forward.begin(ranker, *of(name)) for name in ("a", "b", "c")))
    assert seen == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("in_rest", [True, False])
async def test_one_user_whom_the_ranker_cannot_take_costs_nobody_else(forward: Forward, in_rest: bool) -> None:
    def breaks(users: Any) -> None:
        if "bad" in users:
            text = "index 7 is out of bounds"
            raise IndexError(text)

    ranker = Rest(nothing, breaks) if in_rest else Rest(breaks, nothing)
    parts = await forward.finish(await forward.begin(ranker, *of("a", "bad", "c", "d")))
    scored = {user: part.scored is not None for part in parts for user in part.prepared.requests.users}
    assert scored == {"a": True, "bad": False, "c": True, "d": True}


async def test_a_fault_that_is_nobodys_is_raised(forward: Forward) -> None:
    def breaks(_: Any) -> None:
        text = "the ranker is broken"
        raise ValueError(text)

    with pytest.raises(ValueError, match="is broken"):
        await forward.finish(await forward.begin(Rest(nothing, breaks), *of("a", "b")))
