"""As-of examples: for every chosen moment its candidates, their counters, and which of them were taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from model_server.counters.batch import CountedBatch, PastTokens

if TYPE_CHECKING:
    from model_server.training.asof import Replay
    from model_server.training.requests import Moments

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
CHUNK = 32
MAX_POSITIVES = 20


class Examples(NamedTuple):
    """N requests: batch of C candidates each, label bool[N, C], wanted i64[N] (positives in all), request i64[N]."""

    batch: CountedBatch
    label: Bools
    wanted: I64
    request: I64

    def __len__(self) -> int:
        return len(self.wanted)

    def at(self, rows: NDArray[np.integer]) -> Examples:
        """The requests at `rows`."""
        batch = CountedBatch._make(
            PastTokens._make(part[rows] for part in column) if isinstance(column, PastTokens) else column[rows]
            for column in self.batch
        )
        return Examples(batch, self.label[rows], self.wanted[rows], self.request[rows])


@dataclass(frozen=True)
class Sampling:
    """How training lists are drawn: `width` candidates a list, all positives (at most 20) and uniform negatives."""

    width: int = 80
    seed: int = 0


def build(replay: Replay, moments: Moments, requests: I64, tick: Callable[[int], object] = lambda _: None) -> Examples:
    """Examples with every candidate, for judging."""
    return joined(whole for whole, _ in _chunks(replay, moments, requests, tick))


def build_lists(
    replay: Replay,
    moments: Moments,
    requests: I64,
    sampling: Sampling,
    tick: Callable[[int], object] = lambda _: None,
    scenes: NDArray[np.uint8] | None = None,
) -> Examples:
    """Examples to learn from: requests whose positive was found, candidates thinned; a missed one is never added.

    `scenes` u8[len(requests), S] replace those of the requests.
    """
    return joined(thinned(whole, sampling, chunk) for whole, chunk in _chunks(replay, moments, requests, tick, scenes))


def _chunks(
    replay: Replay,
    moments: Moments,
    requests: I64,
    tick: Callable[[int], object],
    scenes: NDArray[np.uint8] | None = None,
) -> Iterable[tuple[Examples, int]]:
    for start in range(0, len(requests), CHUNK):
        chosen = requests[start : start + CHUNK]
        batch = replay.take(moments, chosen, None if scenes is None else scenes[start : start + CHUNK])
        yield labelled(batch, moments, chosen), start
        tick(len(chosen))


def labelled(batch: CountedBatch, moments: Moments, requests: I64) -> Examples:
    """The batch with what was taken."""
    wanted = moments.start[requests + 1] - moments.start[requests]
    row, item = moments.taken(requests)
    most = 1 + int(max(item.max(initial=0), batch.item.max(initial=0)))
    label = np.isin(np.arange(len(requests))[:, None] * most + batch.item, row * most + item) & (batch.item >= 0)
    return Examples(batch, label, wanted, requests)


def thinned(examples: Examples, sampling: Sampling, stream: int) -> Examples:
    """Lists of `width`: the first 20 positives, uniform negatives; requests without a found positive are left out."""
    chosen = np.flatnonzero(examples.label.any(1))
    rng = np.random.default_rng((sampling.seed, stream))
    label, item = examples.label[chosen], examples.batch.item[chosen]
    lot = rng.random(label.shape, np.float32) + np.where(item >= 0, np.float32(0), np.float32(2))
    # Positives draw a lot below zero; those beyond the twentieth fall out of the list.
    lot = np.where(label, lot - 1, lot)
    surplus = label & (np.cumsum(label, axis=1) > MAX_POSITIVES)
    kept = np.sort(np.argsort(np.where(surplus, 3, lot), axis=1)[:, : sampling.width], axis=1)
    return _picked(examples, chosen, kept)


def _picked(examples: Examples, chosen: NDArray[np.intp], column: NDArray[np.intp]) -> Examples:
    batch = examples.batch
    row = chosen[:, None]
    thin = CountedBatch(
        item=batch.item[row, column],
        word=batch.word[row, column],
        category=batch.category[row, column],
        counters=batch.counters[row, column],
        near=batch.near[row, column],
        past=PastTokens._make(part[chosen] for part in batch.past),
        windows=batch.windows[chosen],
        scene=batch.scene[chosen],
    )
    return Examples(thin, examples.label[row, column], examples.wanted[chosen], examples.request[chosen])


def joined(parts: Iterable[Examples]) -> Examples:
    """All parts as one; widths of lists and histories grow to the widest."""
    held = list(parts)
    batches = [part.batch for part in held]
    pasts = [batch.past for batch in batches]
    past = PastTokens._make(_columns(pasts))
    batch = CountedBatch._make(_columns(batches))._replace(past=past)
    return Examples(
        batch,
        cast("Bools", _stacked([part.label for part in held], False)),
        np.concatenate([part.wanted for part in held]),
        np.concatenate([part.request for part in held]),
    )


def _columns(parts: list[CountedBatch] | list[PastTokens]) -> Iterable[Any]:
    """Every field of the parts, stacked; a field of several fields is left as it is in the first."""
    for name in parts[0]._fields:
        column = [getattr(part, name) for part in parts]
        yield column[0] if isinstance(column[0], PastTokens) else _stacked(column, -1 if name == "item" else 0)


def _stacked(parts: list[NDArray[np.generic]], fill: int) -> NDArray[np.generic]:
    """Blocks [n, w, ...] one after the other, the second axis padded to the widest."""
    if parts[0].ndim == 1 or len({part.shape[1] for part in parts}) == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    whole = np.full((sum(len(part) for part in parts), width, *parts[0].shape[2:]), fill, parts[0].dtype)
    start = 0
    for part in parts:
        whole[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return whole
