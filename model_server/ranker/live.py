"""The trained ranker as the worker uses it: find, count, collate by length bucket, forward, select."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from model_server.counters.batch import CountedBatch
from model_server.counters.groups import counter_groups
from model_server.finding import Finder
from model_server.preparation import look_now
from model_server.ranker.because import Because
from model_server.ranker.device import Precision, fastest
from model_server.ranker.lists import Lists, collate
from model_server.ranker.serving import Served
from model_server.retrieval.merge import Candidates
from model_server.scoring import Weighed
from model_server.selection import Calibration, Inside, Selection, Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from model_server.heads.heads import Heads
    from model_server.preparation import Preparation
    from model_server.ranker.net import Net
    from model_server.scoring import F32, I32, I64, ItemState, Requests, Scored

Part = tuple["NDArray[np.intp]", Lists]
"""Rows of a batch that are of like length, and their lists."""

Kept = tuple["NDArray[np.intp]", "Tensor"]
"""Rows of a batch, and what the counter net made of their candidates [B, C, H], on its device."""

FEW = 8
"""A length bucket with fewer users joins the next longer one: a small forward pass costs more than its padding."""


class NetRanker:
    """Serves a net; immutable after `warm_up`."""

    def __init__(
        self,
        version: str,
        preparation: Preparation,
        net: Net,
        calibration: Calibration,
        heads: Heads,
        device: torch.device,
    ) -> None:
        self.version = version
        self.net = net.to(device).eval()
        self.device = device
        self.precision = Precision(device)
        self._served: dict[Precision, Served] = {}
        self.preparation = preparation
        self._finder = Finder(preparation)
        self.candidates = preparation.retriever.quotas.candidates
        self._select = Selection(preparation.declaration, preparation.retriever.names, calibration, heads)
        groups = counter_groups(preparation.declaration, preparation.counters.names)
        self._because = Because(self.net.base, groups, residual=self.net.encoder is not None)
        self._prefix = net.shape.encoder.prefix if net.shape.encoder is not None else 0
        self._lengths = buckets(preparation.history) if net.shape.encoder is not None else (preparation.history,)

    def warm_up(self, users: int = 32) -> None:
        """Run once on made-up lists, and choose the faster precision for lists of this size."""
        lists = blank_lists(self.net, users, self.candidates, self._lengths[-1]).to(self.device)
        self.precision = fastest(self.device, lambda precision: self.served(precision)(lists))

    def served(self, precision: Precision) -> Served:
        """The net in a precision; made when first asked for."""
        if precision not in self._served:
            self._served[precision] = Served(self.net, precision.dtype)
        return self._served[precision]

    def tokens(self, history: I64) -> I64:
        """Tokens of users with so many history entries: scene and windows, history, candidates."""
        return self._prefix + np.minimum(history, self._lengths[-1]) + self.candidates

    def score(self, requests: Requests, items: ItemState, now_ms: int) -> Scored:
        """The best items of each user."""
        return self.begin(requests, items, now_ms)()

    def weigh(self, requests: Requests, items: ItemState, now_ms: int, wanted: I32) -> Weighed:
        """Score the items `wanted` i32[K] for each user, found or not, in float32."""
        found = self._finder.look_at(requests, items, now_ms, wanted)
        batch = self.preparation.batch(requests.view, requests.scene, items, found, look_now(items, now_ms))
        score, served = np.empty(batch.item.shape, np.float32), self.served(Precision(self.device))
        for rows, length in by_length(batch.used, self._lengths):
            score[rows] = served(collate(batch, rows, length).to(self.device)).cpu().numpy()
        calibration = self._select.calibration

        def owed(user: int, place: int) -> dict[str, float]:
            return calibration.logit(self._because(batch.counters[user, place], float(score[user, place])))

        return Weighed(calibration.logits(score), batch.near > 0, owed)

    def begin(self, requests: Requests, items: ItemState, now_ms: int) -> Callable[[], Scored]:
        """Find and count; what is left is the forward pass and the choice."""
        started = perf_counter()
        found, shared = self._finder.find(requests, items, now_ms)
        retrieved = perf_counter()
        batch = self.preparation.batch(requests.view, requests.scene, items, found, look_now(items, now_ms))
        parts = [(rows, collate(batch, rows, length)) for rows, length in by_length(batch.used, self._lengths)]
        retrieve_ms, collate_ms = 1000 * (retrieved - started), 1000 * (perf_counter() - retrieved)

        def rest() -> Scored:
            began = perf_counter()
            score, hidden = self.forward(batch.item.shape, parts)
            forward_ms = 1000 * (perf_counter() - began)
            timings = Timings(retrieve_ms, collate_ms, forward_ms, self._needed(batch), self._computed(parts))
            candidates = Candidates(batch.item, batch.near)

            def owed(user: int, place: int) -> dict[str, float]:
                return self._because(batch.counters[user, place], float(score[user, place]))

            inside = Inside(lambda best: _at(hidden, best), owed)
            return self._select(candidates, score, inside, requests, shared, timings)

        return rest

    def forward(self, shape: tuple[int, ...], parts: Sequence[Part]) -> tuple[F32, list[Kept]]:
        """Scores f32[U, C] of a batch of that shape, one pass for each of its parts, and what the heads may ask for."""
        score, served, kept = np.empty(shape, np.float32), self.served(self.precision), []
        for rows, lists in parts:
            found, hidden = served.scored(lists.to(self.device))
            score[rows] = found.cpu().numpy()
            kept.append((rows, hidden))
        return score, kept

    def _needed(self, batch: CountedBatch) -> int:
        return int((self._prefix + np.minimum(batch.used, self._lengths[-1]) + (batch.item >= 0).sum(1)).sum())

    def _computed(self, parts: Sequence[Part]) -> int:
        return sum(len(rows) * (self._prefix + lists.history + lists.item.shape[1]) for rows, lists in parts)


def _at(kept: Sequence[Kept], best: NDArray[np.intp]) -> F32:
    """What was kept of the candidates at places [U, K]: f32[U, K, H]."""
    width = kept[0][1].shape[2] if kept else 0
    found = np.empty((*best.shape, width), np.float32)
    for rows, hidden in kept:
        users, candidates, _ = hidden.shape
        places = torch.from_numpy((best[rows] + candidates * np.arange(users)[:, None]).reshape(-1))
        kept_rows = hidden.flatten(0, 1).index_select(0, places.to(hidden.device)).float().cpu().numpy()
        found[rows] = kept_rows.reshape(users, -1, width)
    return found


def buckets(history: int) -> tuple[int, ...]:
    """Lengths a history is padded to."""
    return tuple(sorted({-(-history * part // 4) for part in (1, 2, 3, 4)}))


def by_length(used: I64, lengths: tuple[int, ...]) -> list[tuple[NDArray[np.intp], int]]:
    """Rows grouped by the smallest length that holds them; a group of few joins the next longer one."""
    bucket = np.searchsorted(lengths, np.minimum(used, lengths[-1]))
    groups: list[tuple[NDArray[np.intp], int]] = []
    waiting = np.empty(0, np.intp)
    for number, length in enumerate(lengths):
        waiting = np.concatenate((waiting, np.flatnonzero(bucket == number)))
        if len(waiting) >= FEW:
            groups.append((np.sort(waiting), length))
            waiting = np.empty(0, np.intp)
    if len(waiting):
        longest = lengths[int(bucket[waiting].max())]
        groups.append((np.sort(waiting), longest))
    return groups


def blank_lists(net: Net, users: int, candidates: int, history: int) -> Lists:
    """Made-up lists of a full batch, for warm-up and measuring."""
    shape = net.shape.encoder
    ids = torch.zeros((users, candidates), dtype=torch.int32)
    past = torch.zeros((users, history), dtype=torch.int32)
    windows, kinds = (shape.windows, shape.window_kinds) if shape is not None else (1, 1)
    return Lists(
        counters=torch.rand((users, candidates, net.shape.features)),
        real=torch.ones((users, candidates), dtype=torch.bool),
        item=ids,
        word=ids,
        category=ids,
        past_item=past,
        past_word=past,
        past_category=past,
        past_kind=past,
        past_age=past,
        past_hour=past,
        recalled=torch.ones((users, history), dtype=torch.bool),
        windows=torch.zeros((users, windows, kinds)),
        scene=torch.zeros((users, len(shape.scene_sizes) if shape is not None else 1), dtype=torch.int32),
    )
