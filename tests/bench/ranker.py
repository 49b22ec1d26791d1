"""What batching saves the ranker in CPU, what padding costs, and how close the whole comes to its bare forward pass."""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from model_server.cli import SWITCH_S
from model_server.heads.cells import CellCalibration, count
from model_server.heads.heads import Grading, Heads
from model_server.heads.people import width
from model_server.heads.sides import Side
from model_server.preparation import Preparation
from model_server.ranker.cores import serving_threads
from model_server.ranker.device import Precision, device_of, use_threads
from model_server.ranker.encoder import EncoderShape
from model_server.ranker.lists import Lists
from model_server.ranker.live import Kept, NetRanker, Part, blank_lists, buckets, by_length
from model_server.ranker.net import Net, NetShape
from model_server.retrieval.neighbours import Neighbours
from model_server.scoring import Requests, Scored
from model_server.selection import Calibration
from model_server.training.asof import Replay, neighbours_before
from streams.features.declaration import DEFAULT
from streams.features.view import user_view
from tests.bench.figures import AT_LEAST, AT_MOST, Figure, figure
from tests.shoplog import recorded

USERS, ITEMS, EVENTS = 1_000, 2_000, 30_000
BATCH, BATCHES, SINGLES = 32, 24, 32


class Scoring:
    """A replayed shop, a ranker with every stage in use (weights drawn, not learned), and users to score."""

    def __init__(self, *, encoder: bool) -> None:
        use_threads(serving_threads())
        sys.setswitchinterval(SWITCH_S)
        self.log = recorded(0, users=USERS, items=ITEMS, events=EVENTS)
        preparation = Preparation(DEFAULT, np.sort(self.log.codes), neighbours_before(self.log, DEFAULT, EVENTS))
        untouched = Preparation(DEFAULT, np.empty(0, np.uint64), Neighbours.none())
        self.replay = Replay(self.log, DEFAULT, untouched, neighbours_every_ms=2**60, refresh_ms=0)
        self.replay.fold_before(2**62)
        self.now_ms = int(self.log.columns.ts_ms[-1]) + 1_000
        self.ranker = NetRanker(
            "bench", preparation, drawn_net(preparation, encoder), Calibration(1, 0), drawn_heads(), device_of("cpu")
        )
        self.ranker.warm_up()

    def begin(self, users: NDArray[np.int64]) -> Callable[[], Scored]:
        """One call's first half, from the rows on; the rest is returned. The worker sorts users by length too."""
        rows = self.replay.users[users[np.argsort(self.replay.users["history_n"][users], kind="stable")]]
        scene = np.concatenate((rows["scene"], np.full((len(users), 3), 3, np.uint8)), axis=1)
        requests = Requests([f"{u}" for u in users], user_view(self.replay.layout, rows, self.now_ms), scene)
        return self.ranker.begin(requests, self.replay.items, self.now_ms)

    def one_after_the_other(self, batches: NDArray[np.int64]) -> list[Scored]:
        """Every batch from its rows to its best items, alone."""
        return [self.begin(users)() for users in batches]

    def overlapped(self, batches: NDArray[np.int64]) -> list[Scored]:
        """As the worker does it: the next batch begins in its thread while one is scored."""
        with ThreadPoolExecutor(1) as thread:
            begun = [thread.submit(self.begin, users) for users in batches[:1]]
            scored = []
            for following in range(1, len(batches) + 1):
                rest = begun.pop().result()
                begun += [thread.submit(self.begin, users) for users in batches[following : following + 1]]
                scored.append(rest())
        return scored

    def parts(self, users: NDArray[np.int64]) -> list[Part]:
        """The lists of one batch, as its forward pass gets them."""
        found: list[Part] = []

        class Listening(NetRanker):
            def forward(self, shape: tuple[int, ...], parts: Sequence[Part]) -> tuple[NDArray[np.float32], list[Kept]]:
                found.extend(parts)
                return super().forward(shape, parts)

        kept = self.ranker
        self.ranker = Listening("bench", kept.preparation, kept.net, Calibration(1, 0), drawn_heads(), kept.device)
        self.begin(users)()
        self.ranker = kept
        return found


def drawn_net(preparation: Preparation, encoder: bool) -> Net:
    """A net of the size that is trained by default."""
    features = len(preparation.counters.names)
    shape = EncoderShape(
        features=features, words=len(preparation.words) + 1, kinds=len(DEFAULT.kinds),
        window_kinds=len(DEFAULT.window_kinds), windows=len(DEFAULT.windows), scene_sizes=DEFAULT.scene_sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    net = Net(NetShape(features, shape if encoder else None))
    # Their zeros would make every score zero.
    for last in (net.base.last, *([net.encoder.head] if net.encoder is not None else [])):
        torch.nn.init.normal_(last.weight, std=0.1)
    return net


def drawn_heads() -> Heads:
    """Heads as large as learned ones, side heads and calibrations included."""
    rng, columns, size = np.random.default_rng(0), width(DEFAULT), count(DEFAULT)
    calibrated = CellCalibration(np.ones(size), np.zeros(size))

    def side(columns: int) -> Side:
        drawn = rng.normal(size=columns)
        return Side("learned", -3.0, 1, 1, np.zeros(columns), np.ones(columns), drawn / 100)

    grading = Grading(np.ones(2), np.full(2, -3.0), rng.normal(size=(64, 2)) / 100, of_item=False)
    return Heads(
        grading,
        calibrations=(calibrated, calibrated),
        opens=side(columns + 1),
        opts_out=side(columns),
        comes=side(columns),
    )


def ranker_figures() -> list[Figure]:
    """Figures of the ranker alone: no queue, no Redis, no Kafka."""
    figures = _figures("ranker", Scoring(encoder=True))
    return [*figures, *_figures("counter_net", Scoring(encoder=False))[:2]]


def _figures(name: str, scoring: Scoring) -> list[Figure]:
    turns = np.random.default_rng(0).permutation(USERS)
    batches, singles = turns[: BATCH * BATCHES].reshape(BATCHES, BATCH), turns[:SINGLES, None]
    scoring.one_after_the_other(batches)  # Only warms: the stages are timed in the next.
    scored = scoring.one_after_the_other(batches)
    needed, padded = (sum(getattr(each, part) for each in scored) for part in ("tokens", "padded_tokens"))
    bare_s, overlapped_s, batched_cpu_s, single_cpu_s = _best_s(
        (_bare(scoring, batches), time.perf_counter),
        (lambda: scoring.overlapped(batches), time.perf_counter),
        (lambda: scoring.one_after_the_other(batches), time.process_time),
        (lambda: scoring.one_after_the_other(singles), time.process_time),
    )
    ranker, users = scoring.ranker, batches.size
    threads = f"{ranker.precision.name}, {torch.get_num_threads()} thread(s)"
    how = f"{ranker.candidates} candidates, batches of {BATCH}, {threads}, the next batch prepared beside"
    single_ms, batched_ms = 1000 * single_cpu_s / SINGLES, 1000 * batched_cpu_s / users
    alone = f"CPU a user one by one, {single_ms:.2f} ms, over that in batches, {batched_ms:.2f} ms"
    return [
        figure(f"{name}_users_per_s", users / overlapped_s, "users/s", None, how),
        figure(f"{name}_batching_cpu_gain", single_ms / batched_ms, "x", None, alone),
        figure("padding_ratio", 1 - needed / padded, "", (AT_MOST, 0.10), "tokens that only fill a length bucket"),
        figure(
            "end_to_end_of_forward",
            bare_s / overlapped_s,
            "",
            (AT_LEAST, 0.90),
            "users/s from rows to best items over those of the bare net on the same shapes",
        ),
        *_stages(scored),
        _shape_difference(scoring, batches[0]),
    ]


def _stages(scored: Sequence[Scored]) -> list[Figure]:
    """Milliseconds a user of each stage, nothing else running."""
    stages = {
        "retrieve": ("candidates", None),
        "collate": ("counters and tensors", (AT_MOST, 0.15)),
        "forward": ("the net", None),
    }
    return [
        figure(
            f"{stage}_cpu_ms_per_user",
            float(np.median([getattr(s, f"{stage}_ms") for s in scored])) / BATCH,
            "ms",
            budget,
            how,
        )
        for stage, (how, budget) in stages.items()
    ]


def _shape_difference(scoring: Scoring, users: NDArray[np.int64]) -> Figure:
    """How far a user's float32 scores move with the batch that it is in."""
    served = scoring.ranker.served(Precision(scoring.ranker.device))
    difference = 0.0
    for rows, lists in scoring.parts(users):
        alone = [served(Lists(*(part[at : at + 1] for part in lists))) for at in range(len(rows))]
        moved = (served(lists) - torch.cat(alone)).masked_fill(~lists.real, 0.0)
        difference = max(difference, float(moved.abs().max()))
    how = f"float32 scores in a batch of {BATCH} and alone"
    return figure("batch_shape_max_diff", difference, "", (AT_MOST, 1e-5), how)


def _bare(scoring: Scoring, batches: NDArray[np.int64]) -> Callable[[], object]:
    """The net alone, on lists of the very shapes that these users' batches take."""
    ranker = scoring.ranker
    used = scoring.replay.users["history_n"].astype(np.int64)
    lengths = buckets(ranker.preparation.history)
    made = [
        blank_lists(ranker.net, len(rows), ranker.candidates, length)
        for users in batches
        for rows, length in by_length(used[users], lengths)
    ]
    served = ranker.served(ranker.precision)
    return lambda: [served(lists) for lists in made]


def _best_s(*works: tuple[Callable[[], object], Callable[[], float]], rounds: int = 5) -> list[float]:
    """Seconds by its clock of each work's fastest round, the works in turns, after one round that only warms."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for (work, clock), spent in zip(works, seconds, strict=True):
            started_s = clock()
            work()
            spent.append(clock() - started_s)
    return [min(spent[1:]) for spent in seconds]
