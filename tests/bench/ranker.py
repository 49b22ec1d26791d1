"""What batching the ranker gains, what padding costs, and how close the whole ranker comes to its bare forward pass."""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from model_server.preparation import Preparation
from model_server.ranker.device import device_of, serving_threads, use_threads
from model_server.ranker.encoder import EncoderShape
from model_server.ranker.live import NetRanker, blank_lists, buckets, by_length
from model_server.ranker.net import Net, NetShape
from model_server.retrieval.neighbours import Neighbours
from model_server.scoring import Requests
from model_server.selection import Calibration
from model_server.training.asof import Replay, neighbours_before
from streams.features.declaration import DEFAULT
from streams.features.view import user_view
from tests.bench.figures import AT_LEAST, AT_MOST, Figure, figure
from tests.shoplog import recorded

USERS, ITEMS, EVENTS = 1_000, 2_000, 30_000
BATCH, BATCHES, SINGLES = 32, 8, 32


class Scoring:
    """A replayed shop, a ranker with every stage in use (weights drawn, not learned), and users to score."""

    def __init__(self, *, encoder: bool) -> None:
        use_threads(serving_threads())
        self.log = recorded(0, users=USERS, items=ITEMS, events=EVENTS)
        preparation = Preparation(DEFAULT, np.sort(self.log.codes), neighbours_before(self.log, DEFAULT, EVENTS))
        untouched = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none())
        self.replay = Replay(self.log, DEFAULT, untouched, neighbours_every_ms=2**60, refresh_ms=0)
        self.replay.fold_before(2**62)
        self.now_ms = int(self.log.columns.ts_ms[-1]) + 1_000
        self.ranker = NetRanker(
            "bench", preparation, drawn_net(preparation, encoder), Calibration(1, 0), device_of("cpu")
        )
        self.ranker.warm_up()

    def score(self, users: NDArray[np.int64]) -> tuple[int, int]:
        """(tokens, padded tokens) of one call."""
        rows = self.replay.users[users]
        scene = np.concatenate((rows["scene"], np.full((len(users), 3), 3, np.uint8)), axis=1)
        requests = Requests([f"{u}" for u in users], user_view(self.replay.layout, rows, self.now_ms), scene)
        scored = self.ranker.score(requests, self.replay.items, self.now_ms)
        return scored.tokens, scored.padded_tokens


def drawn_net(preparation: Preparation, encoder: bool) -> Net:
    """A net of the size that is trained by default."""
    features = len(preparation.counters.names)
    shape = EncoderShape(
        features=features, words=len(preparation.words) + 1, kinds=len(DEFAULT.kinds),
        window_kinds=len(DEFAULT.window_kinds), windows=len(DEFAULT.windows), scene_sizes=DEFAULT.scene_sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    return Net(NetShape(features, shape if encoder else None))


def ranker_figures() -> list[Figure]:
    """Figures of the ranker alone: no queue, no Redis, no Kafka."""
    figures = _figures("ranker", Scoring(encoder=True))
    return [*figures, *_figures("counter_net", Scoring(encoder=False))[:2]]


def _figures(name: str, scoring: Scoring) -> list[Figure]:
    turns = np.random.default_rng(0).permutation(USERS)
    batches = turns[: BATCH * BATCHES].reshape(BATCHES, BATCH)
    tokens: list[tuple[int, int]] = []
    together_s = _best_s(lambda: tokens.extend(scoring.score(users) for users in batches)) / batches.size
    alone_s = _best_s(lambda: [scoring.score(user) for user in turns[:SINGLES, None]]) / SINGLES
    needed, padded = np.sum(tokens, axis=0).tolist()
    bare_s = _bare_s(scoring, batches)
    ranker = scoring.ranker
    threads = torch.get_num_threads()
    how = f"{ranker.candidates} candidates, batches of {BATCH}, {ranker.precision.name}, {threads} thread(s)"
    return [
        figure(f"{name}_users_per_s", 1 / together_s, "users/s", None, how),
        figure(
            "batching_gain" if name == "ranker" else f"{name}_batching_gain",
            alone_s / together_s,
            "x",
            (AT_LEAST, 8),
            "the ranker alone, against one by one",
        ),
        figure("padding_ratio", 1 - needed / padded, "", (AT_MOST, 0.10), "tokens that only fill a length bucket"),
        figure(
            "end_to_end_of_forward",
            bare_s / together_s,
            "",
            (AT_LEAST, 0.90),
            "users/s over those of the bare net on the same shapes",
        ),
    ]


def _bare_s(scoring: Scoring, batches: NDArray[np.int64]) -> float:
    """Seconds a user of the net alone, on lists of the very shapes that these users' batches take."""
    ranker = scoring.ranker
    used = scoring.replay.users["history_n"].astype(np.int64)
    lengths = buckets(ranker.preparation.history)
    made = [
        blank_lists(ranker.net, len(rows), ranker.candidates, length)
        for users in batches
        for rows, length in by_length(used[users], lengths)
    ]

    served = ranker.served(ranker.precision)

    def work() -> None:
        for lists in made:
            served(lists)

    return _best_s(work) / batches.size


def _best_s(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of the fastest of some rounds, after one that only warms."""
    work()
    seconds = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started_s)
    return min(seconds)
