"""The side heads from a log: who comes anyway, who opens a push, whom a push makes opt out; as of each moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model_server.evaluation.calibration import auc, ece, logloss
from model_server.heads.cells import cells
from model_server.heads.people import person_columns
from model_server.heads.sides import COMES, OPENS, OPTS_OUT, Prior, Side, learn, rated
from model_server.training.observed import PUSHED, Observed, of_kind
from model_server.training.requests import Moments
from streams.features.fold import fold_users
from streams.features.rows import Layout
from streams.features.view import user_view

if TYPE_CHECKING:
    from collections.abc import Callable

    from model_server.heads.heads import Heads
    from model_server.training.dataset import Dataset
    from model_server.training.heads import Scorer

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
CHUNK = 32
TOLD = 0.2
"""Share of the cases, the newest, that a head is judged on before it learns from them too."""


class Asked(NamedTuple):
    """Moments at which side heads are asked, in time order: positions of their events, and how users were then."""

    event: I64
    user: I64
    now_ms: I64
    columns: F64


def fit_sides(
    dataset: Dataset, heads: Heads, scorer: Scorer, tick: Callable[[int], object] = lambda _: None
) -> tuple[dict[str, Side], dict[str, Any]]:
    """Side heads by name, and what they came to. They learn from what was known when the test began."""
    settings, recorded, declaration = dataset.config.heads, dataset.recorded, dataset.declaration
    observed = Observed(recorded, declaration, settings.window_ms)
    chosen = dataset.chosen
    end_ms = int(chosen.moments.ts_ms[chosen.test[0]]) if len(chosen.test) else observed.last_ms + 1
    came = _after_acts(dataset, observed, end_ms, settings.people)
    pushes = _moments(dataset, _newest(of_kind(recorded, declaration, PUSHED), dataset, end_ms, settings.pushes), 0)
    known = observed.complete(pushes.now_ms, end_ms)
    out = observed.opted_out(pushes.user, pushes.now_ms)
    columns, found = _with_relevance(dataset, heads, scorer, pushes, tick)
    item = recorded.item[pushes.event].astype(np.int64)
    opened = observed.opened(pushes.user, item, pushes.now_ms)
    cases: dict[str, tuple[F64, NDArray[np.bool_], Prior]] = {
        "opens": (columns[known & found], opened[known & found], OPENS),
        "opts_out": (pushes.columns[known], out[known], OPTS_OUT),
        "comes": (came.columns, observed.came(came.user, came.now_ms), COMES),
    }
    sides, told = {}, {}
    for name, (about, label, prior) in cases.items():
        sides[name], told[name] = learned(about, label.astype(np.float64), prior)
    return sides, told


def learned(columns: F64, label: F64, prior: Prior) -> tuple[Side, dict[str, Any]]:
    """A head from all cases; a rate where one from the older cases is no better than their rate on the newest.

    Columns f64[N, D] in time order, and what came of them f64[N], 0 or 1.
    """
    side, cut = learn(columns, label, prior), len(label) - int(len(label) * TOLD)
    judged: dict[str, Any] | None = None
    if side.how == "learned":
        chance, newest = learn(columns[:cut], label[:cut], prior)(columns[cut:]), label[cut:]
        rate = rated(label[:cut], prior)(columns[cut:])
        judged = {
            "cases": len(newest),
            "share": float(newest.mean()),
            "logloss": logloss(chance, newest),
            "logloss of the rate": logloss(rate, newest),
            "auc": auc(chance, newest > 0),
            "ece": ece(chance, newest),
        }
        side = side if judged["logloss"] < judged["logloss of the rate"] else rated(label, prior)
    told = {"how": side.how, "cases": side.cases, "positive": side.positive, "prior": prior.words}
    return side, {**told, "judged": judged}


def _newest(events: I64, dataset: Dataset, end_ms: int, most: int) -> I64:
    """The newest of the events before a moment."""
    return events[dataset.recorded.columns.ts_ms[events] < end_ms][-most:]


def _after_acts(dataset: Dataset, observed: Observed, end_ms: int, most: int) -> Asked:
    """Moments right after acts, evenly over the newer half of what may teach, unless a push came within the window."""
    recorded, kinds = dataset.recorded, dataset.declaration.kinds
    acts = np.flatnonzero(np.array([k.active and k.item for k in kinds])[recorded.columns.kind])
    acts = _newest(acts, dataset, end_ms, len(acts))
    acts = acts[len(acts) // 2 :]
    acts = acts[observed.complete(recorded.columns.ts_ms[acts], end_ms)]
    acts = acts[~observed.pushed(recorded.user[acts], recorded.columns.ts_ms[acts])]
    return _moments(dataset, acts[np.unique(np.linspace(0, len(acts) - 1, min(most, len(acts))).astype(np.int64))], 1)


def _moments(dataset: Dataset, event: I64, after_ms: int) -> Asked:
    """Users as they were `after_ms` after each of the events (in time order), who see what came strictly before."""
    recorded, layout = dataset.recorded, Layout(dataset.declaration)
    user, now_ms = recorded.user[event], recorded.columns.ts_ms[event] + after_ms
    users, rows, done = layout.empty(len(recorded.user_ids)), [layout.empty(0)], 0
    for one, at_ms in zip(user.tolist(), now_ms.tolist(), strict=True):
        end = int(np.searchsorted(recorded.columns.ts_ms, at_ms))
        if end > done:
            fold_users(layout, users, recorded.user[done:end], recorded.columns.take(np.arange(done, end)))
            done = end
        rows.append(users[one : one + 1].copy())
    then = np.concatenate(rows)
    scene = _scene(then["scene"], recorded.columns.codes[event, -3:])
    return Asked(event, user, now_ms, person_columns(dataset.declaration, user_view(layout, then, now_ms), scene))


def _scene(declared: U8, moment: U8) -> U8:
    return np.concatenate((declared, moment), axis=1)


def _with_relevance(
    dataset: Dataset, heads: Heads, scorer: Scorer, pushes: Asked, tick: Callable[[int], object]
) -> tuple[F64, NDArray[np.bool_]]:
    """The columns of pushes and the logit z1 of what was pushed, and which of it was among the candidates then."""
    count, names = len(pushes.event), dataset.preparation.counters.names
    first, found = np.zeros(count), np.zeros(count, np.bool_)
    item = dataset.recorded.item[pushes.event]
    moments = Moments(pushes.now_ms, pushes.user, pushes.event, np.arange(count + 1), item)
    replay = dataset.replay()
    for start in range(0, count, CHUNK):
        rows = np.arange(start, min(start + CHUNK, count))
        batch = replay.take(moments, rows)
        score, hidden = scorer(batch)
        share = batch.counters[..., names.index("strong_rate")]
        logit, _ = heads.logits(score, hidden, share, cells(dataset.declaration, batch.scene))
        here = batch.item == item[rows][:, None]
        found[rows] = here.any(1)
        first[rows] = logit[np.arange(len(rows)), here.argmax(1)]
        tick(len(rows))
    return np.concatenate((pushes.columns, first[:, None]), axis=1), found
