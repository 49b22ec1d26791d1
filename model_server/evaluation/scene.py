"""What the scene is worth: examples without it, with that of another visit, and right against wrong values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.counters.groups import SCENE, counter_groups
from model_server.retrieval.merge import Candidates
from model_server.training.examples import CHUNK, Examples, Sampling, build_lists, joined, labelled
from model_server.training.requests import REFRESH_MS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_server.training.asof import Replay
    from model_server.training.dataset import Dataset
    from model_server.training.requests import Moments

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
WITHOUT, PERMUTED, OTHERS = "no scene", "scene permuted", "scene of others"
PLACEBOS = (PERMUTED, OTHERS)
WEEK_MS = 7 * 86_400_000


def without_scene(dataset: Dataset, examples: Examples) -> Examples:
    """The same candidates with every counter and token of the scene at nothing."""
    gone = counter_groups(dataset.declaration, dataset.preparation.counters.names)[SCENE]
    batch = examples.batch
    counters = batch.counters.copy()
    counters[..., gone] = 0
    past = batch.past._replace(hour=np.zeros_like(batch.past.hour))
    blind = batch._replace(counters=counters, scene=np.zeros_like(batch.scene), past=past)
    return Examples(blind, examples.label, examples.wanted, examples.request)


class Alike(NamedTuple):
    """How often a value given is the right one, and how often one drawn from all right ones would be."""

    given: float
    by_chance: float


class Placebo(NamedTuple):
    """Lists to learn from and requests to choose by under another scene, and, of the lists, the share of those whose
    scene is really another one, and its values.
    """

    learn: Examples
    valid: Examples
    changed: float
    alike: Mapping[str, Alike]


def placebo(dataset: Dataset, name: str, seed: int, tick: Callable[[int], object] = lambda _: None) -> Placebo:
    """Train and valid built again, each request under the scene of another visit of its part.

    PERMUTED: of the same user; who has one visit gets one as by OTHERS: of anybody in the same week. Candidates,
    counters and tokens all see that scene. Passes are chosen on valid: with the right scenes there, what is chosen
    would know of them.
    """
    learn, moments, replay = dataset.learn, dataset.chosen.moments, dataset.replay()
    right, scenes = learn.batch.scene, _wrong(dataset, learn, name, seed)
    sampling = Sampling(dataset.config.width, dataset.config.seed)
    lists = build_lists(replay, moments, learn.request, sampling, tick, scenes)
    valid = _whole(replay, moments, dataset.valid.request, _wrong(dataset, dataset.valid, name, seed), tick)
    fields = enumerate(dataset.declaration.scene_names)
    alike = {field: _alike(right[:, column], scenes[:, column]) for column, field in fields if right[:, column].any()}
    return Placebo(lists, valid, float((scenes != right).any(1).mean()), alike)


def _wrong(dataset: Dataset, part: Examples, name: str, seed: int) -> U8:
    """For each request of a part the scene u8[N, S] of another one of the part, as `placebo` says."""
    moments = dataset.chosen.moments
    user, ts_ms = moments.user[part.request], moments.ts_ms[part.request]
    other = permutation(user, ts_ms, ts_ms // WEEK_MS, seed)
    if name == PERMUTED:
        own = permutation(user, ts_ms, user, seed)
        other = np.where(same_visit(user, ts_ms, own), other, own)
    scenes: U8 = part.batch.scene[other]
    return scenes


def _whole(replay: Replay, moments: Moments, requests: I64, scenes: U8, tick: Callable[[int], object]) -> Examples:
    """Requests with every candidate under given scenes u8[N, S]."""
    parts = []
    for start in range(0, len(requests), CHUNK):
        chunk = slice(start, start + CHUNK)
        parts.append(labelled(replay.take(moments, requests[chunk], scenes[chunk]), moments, requests[chunk]))
        tick(len(requests[chunk]))
    return joined(parts)


def _alike(right: U8, given: U8) -> Alike:
    """Of one field, where its right value is known."""
    shares = np.bincount(right[right > 0]) / (right > 0).sum()
    return Alike(float((given == right)[right > 0].mean()), float((shares**2).sum()))


def permutation(user: I64, ts_ms: I64, circle: I64, seed: int) -> I64:
    """For each of N requests one of another visit in its circle, position i64[N]; the own where there is none.

    Requests of one visit, less than half an hour apart, have one scene: each would get its own back. The visits of a
    circle are taken round by one step in a shuffled order, and a request gets the place that it has in its own. A visit
    is in the circle of its first request.
    """
    order, start = _visits(user, ts_ms)
    size = np.diff(np.append(start, len(order)))
    visit = np.repeat(np.arange(len(start)), size)
    other = _around(circle[order][start], seed)[visit]
    place = np.arange(len(order)) - start[visit]
    found = np.empty(len(order), np.int64)
    found[order] = order[start[other] + place % size[other]]
    return found


def same_visit(user: I64, ts_ms: I64, other: I64) -> NDArray[np.bool_]:
    """Which of N requests are of the visit that request `other` i64[N] is of."""
    order, start = _visits(user, ts_ms)
    visit = np.empty(len(order), np.int64)
    visit[order] = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(order))))
    same: NDArray[np.bool_] = visit == visit[other]
    return same


def _visits(user: I64, ts_ms: I64) -> tuple[I64, I64]:
    """(requests ordered by user and time, where in that order each visit begins)."""
    order = np.lexsort((ts_ms, user))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (user[order][1:] != user[order][:-1]) | (np.diff(ts_ms[order]) >= REFRESH_MS)
    return order, np.flatnonzero(begins)


def _around(circle: I64, seed: int) -> I64:
    """For each of V visits the next one of its circle i64[V], in a shuffled order."""
    order = np.lexsort((np.random.default_rng(seed).random(len(circle)), circle))
    ordered = circle[order]
    start, end = np.searchsorted(ordered, ordered), np.searchsorted(ordered, ordered, side="right")
    following = np.arange(len(circle)) + 1
    other = np.empty(len(circle), np.int64)
    other[order] = order[np.where(following < end, following, start)]
    return other


class Contrast(NamedTuple):
    """One taken item of each of n requests, [n, 1]: under the right scene, and with one field of it wrong."""

    field: str
    right: Examples
    wrong: Examples


def contrasts(dataset: Dataset, most: int, seed: int, tick: Callable[[int], object] = lambda _: None) -> list[Contrast]:
    """Right against wrong values of every scene field, at the newest `most` test requests.

    Wrong values are drawn from those of the other requests; each pair of values is kept as often one way round as the
    other. Where the item stands in the retrieval lists is the same
    on both sides. A request without a value of the field, or whose item was not found, says nothing.
    """
    if dataset.test is None:
        return []
    scenes = dataset.test.batch.scene
    fields = [
        (column, name)
        for column, name in enumerate(dataset.declaration.scene_names)
        if len(np.unique(scenes[scenes[:, column] > 0, column])) > 1
    ]
    parts: dict[str, list[tuple[Examples, Examples]]] = {name: [] for _, name in fields}
    rng = np.random.default_rng(seed)
    for right, recount in _taken(dataset, dataset.chosen.test[-most:], tick):
        for column, name in fields:
            own = right.batch.scene[:, column]
            scene = right.batch.scene.copy()
            scene[:, column] = _others(own, scenes[:, column], rng)
            rows = np.flatnonzero((right.batch.item[:, 0] >= 0) & (own > 0))
            if len(rows):
                parts[name].append((right.at(rows), recount(scene).at(rows)))
    whole = []
    for column, name in fields:
        if parts[name]:
            right, wrong = (joined(side) for side in zip(*parts[name], strict=True))
            rows = balanced(right.batch.scene[:, column], wrong.batch.scene[:, column])
            if len(rows):
                whole.append(Contrast(name, right.at(rows), wrong.at(rows)))
    return whole


def balanced(right: U8, wrong: U8) -> NDArray[np.intp]:
    """Rows, in order, that hold every pair of values as often one way round as the other; the first of the surplus go.

    Without this a score that is higher under a common value, whatever the item, would seem to tell scenes apart.
    """
    codes = 256
    way, back = right.astype(np.int64) * codes + wrong, wrong.astype(np.int64) * codes + right
    ways = np.bincount(way, minlength=codes * codes)
    order = np.argsort(way, kind="stable")
    left = np.empty(len(way), np.int64)
    left[order] = np.searchsorted(way[order], way[order], side="right") - np.arange(len(way))
    return np.flatnonzero(left <= np.minimum(ways[way], ways[back]))


def _taken(
    dataset: Dataset, requests: I64, tick: Callable[[int], object]
) -> Iterator[tuple[Examples, Callable[[U8], Examples]]]:
    """Of each chunk of requests the first taken item that was found (-1 for none), and how to count it elsewhere."""
    replay, moments = dataset.replay(), dataset.chosen.moments
    for start in range(0, len(requests), CHUNK):
        chunk = requests[start : start + CHUNK]
        whole = labelled(replay.take(moments, chunk), moments, chunk)
        row = np.arange(len(chunk))[:, None]
        column = whole.label.argmax(1)[:, None]
        found = whole.label[row, column]
        item = np.where(found, whole.batch.item[row, column], np.int32(-1)).astype(np.int32)
        one = Candidates(item, whole.batch.near[row, column])

        def recount(scene: U8, one: Candidates = one, chunk: I64 = chunk) -> Examples:
            return labelled(replay.recount(one, scene), moments, chunk)

        yield recount(whole.batch.scene), recount
        tick(len(chunk))


def _others(own: U8, values: U8, rng: np.random.Generator) -> U8:
    """For each of `own` a value drawn from the known `values` that differ from it."""
    known = np.sort(values[values > 0])
    first, last = np.searchsorted(known, own), np.searchsorted(known, own, side="right")
    drawn = rng.integers(0, np.maximum(len(known) - (last - first), 1))
    other: U8 = known[np.where(drawn >= first, np.minimum(drawn + last - first, len(known) - 1), drawn)]
    return other
