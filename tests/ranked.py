"""A small fit, by this process or by several that `launched` starts: `python -m tests.ranked FOLDER fits`."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from model_server.counters.batch import CountedBatch, PastTokens
from model_server.ranker.encoder import EncoderShape
from model_server.ranker.net import Net, NetShape
from model_server.training.checkpoints import Checkpoints
from model_server.training.examples import Examples
from model_server.training.plan import Plan, fitted
from model_server.training.ranks import Ranks, RanksError, joined
from model_server.training.stages import Around, Passed, StageSettings

LISTS, CANDIDATES, FEATURES, HISTORY, SCENE = 49, 12, 9, 6, (5, 4, 25)
BATCH = 16
"""Of 49 lists the last batch has one: of two processes the second has no part in it."""


def drawn(lists: int, seed: int = 0) -> Examples:
    """Lists of which one candidate was taken, rather one with a high first counter."""
    rng = np.random.default_rng(seed)

    def codes(size: int, *shape: int, dtype: type[np.generic] = np.int32) -> np.ndarray:
        return rng.integers(0, size, shape).astype(dtype)

    item, past = (lists, CANDIDATES), (lists, HISTORY)
    counters = rng.random((*item, FEATURES), np.float32)
    taken = (counters[..., 0] + 0.3 * rng.random(item)).argmax(1)
    kind, age, hour = (codes(4, *past, dtype=np.uint8) for _ in range(3))
    recalled = np.arange(HISTORY) < codes(HISTORY + 1, lists, 1)
    tokens = PastTokens(codes(40, *past), codes(20, *past), codes(5, *past), kind, age, hour, recalled)
    batch = CountedBatch(
        codes(40, *item), codes(20, *item), codes(5, *item), counters, counters[..., :2].copy(), tokens,
        rng.random((lists, 3, 4), np.float32), np.stack([codes(size, lists, dtype=np.uint8) for size in SCENE], 1),
    )  # fmt: skip
    label = np.arange(CANDIDATES) == taken[:, None]
    return Examples(batch, label, label.sum(1), np.arange(lists))


def plan() -> Plan:
    """One pass of each stage over few lists."""
    encoder = EncoderShape(
        features=FEATURES, words=20, kinds=4, window_kinds=4, windows=3, scene_sizes=SCENE, history=HISTORY,
        hidden=16, heads=2,
    )  # fmt: skip
    valid = drawn(30, 1)
    rates = (0.02, 2e-3, 3e-4)
    return Plan(
        learn=drawn(LISTS),
        valid=valid,
        popularity=valid.batch.counters[..., 1].copy(),
        shape=NetShape(FEATURES, encoder),
        stages=tuple(StageSettings(rate, passes=1, batch=BATCH, decay=0.02, slower=0.2) for rate in rates),
        seed=0,
        history=HISTORY,
        precision="float32",
        threads=1,
    )


def launched(folder: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Two processes of `fits` or `dies`, and what they said."""
    start = "import sys; from model_server.training.launch import launch; sys.exit(launch(sys.argv[1:], 2))"
    command = [sys.executable, "-c", start, sys.executable, "-m", "tests.ranked", f"{folder}", what]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def fit(ranks: Ranks, made: Plan, folder: Path | None = None, tick: Callable[[Passed], object] = lambda _: None) -> Net:
    """The fit of a plan by this process and the others."""
    kept = Checkpoints(folder if ranks.rank == 0 else None, "tests", ranks)
    return fitted(made, made.judge(torch.device("cpu")), Around(tick, kept, ranks, made.precision)).nets["encoder"]


@contextmanager
def without_chance(made: Plan) -> Iterator[Plan]:
    """The plan with nothing hidden from the net, nor dropped in it."""
    dropout, shape = torch.nn.functional.dropout, made.shape
    assert shape.encoder is not None
    torch.nn.functional.dropout = lambda x, *_, **__: x
    try:
        yield made._replace(shape=dataclasses.replace(shape, encoder=dataclasses.replace(shape.encoder, dropped=0.0)))
    finally:
        torch.nn.functional.dropout = dropout


class Interrupted(Exception):
    """In the middle of a fit."""


class Told:
    """Hears of passes, and does something after the last of so many."""

    def __init__(self, last: int, then: Callable[[], object]) -> None:
        self.new: list[str] = []
        self.again: list[str] = []
        self._last, self._then = last, then

    def __call__(self, passed: Passed) -> None:
        (self.again if passed.again else self.new).append(f"{passed.stage} {passed.epoch} {passed.loss!r}")
        if len(self.new) == self._last:
            self._then()


def interrupt() -> None:
    """As Ctrl-C would, but one that can be caught."""
    raise Interrupted


def fits(folder: Path, ranks: Ranks) -> None:
    """Fits with and without chance, and one that is interrupted and goes on; every process writes down its weights."""

    def wrote(name: str, net: Net) -> None:
        save_file(net.state_dict(), folder / f"{name}.{ranks.rank}.safetensors")

    with without_chance(plan()) as still:
        wrote("still", fit(ranks, still))
    wrote("whole", fit(ranks, plan()))
    kept, told = folder / "kept", Told(99, interrupt)
    with suppress(Interrupted):
        fit(ranks, plan(), kept, Told(2, interrupt))
    wrote("resumed", fit(ranks, plan(), kept, told))
    (folder / f"told.{ranks.rank}").write_text("\n".join((*told.again, "new", *told.new)))
    (folder / f"drawn.{ranks.rank}").write_text(repr(torch.rand(4).tolist()))


def dies(folder: Path, ranks: Ranks) -> None:
    """The last process is killed after its second pass."""

    def end() -> None:
        if ranks.rank == ranks.world - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(ranks, plan(), folder / "kept", Told(2, end))
    (folder / f"ended.{ranks.rank}").touch()


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        with joined("cpu") as company:
            {"fits": fits, "dies": dies}[sys.argv[2]](Path(sys.argv[1]), company)
            company.leave()
    except RanksError as error:  # as `kairos` does it
        sys.exit(str(error))
