"""Rows of two namespaces side by side: which features differ, for how many, and by how much. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.features.declaration import Declaration
from streams.features.items import ItemLayout, item_view
from streams.features.rows import Layout
from streams.features.view import user_view

EXAMPLES = 5
BYTES = "stored bytes"
"""Of rows whose features are all alike and whose bytes are not."""

Values = NDArray[Any]


class Column(NamedTuple):
    """One feature of U rows, values [U] or [U, N]; `means` is what must be alike for two of them to be compared.

    `amount`: it counts something, so that a relative error says how far apart two are.
    """

    values: Values
    means: object = None
    amount: bool = True


Columns = Mapping[str, Column]


def last_ms(layout: Layout | ItemLayout, blobs: Sequence[bytes | None]) -> NDArray[np.int64]:
    """When each row's newest event was."""
    return np.asarray(layout.unpack(blobs)["last_ms"], np.int64)


def user_columns(layout: Layout, blobs: Sequence[bytes | None], at_ms: NDArray[np.int64]) -> dict[str, Column]:
    """Every feature of users as a reader at `at_ms` i64[U] sees it."""
    declaration, rows = layout.declaration, layout.unpack(blobs)
    view = user_view(layout, rows, at_ms)
    columns = _counted(declaration, [k.name for k in declaration.window_kinds], view.windows)
    columns |= {
        f"totals.{kind.name}": Column(view.totals[:, i].astype(np.int64)) for i, kind in enumerate(declaration.kinds)
    }
    columns |= {
        f"scene.{scene.name}": Column(view.scene[:, i], scene, amount=False)
        for i, scene in enumerate(declaration.scene)
    }
    times = ("last_ms", "scene_ms", "opted_out_ms", "token_dead_ms", "session_start_ms", "session_last_ms")
    columns |= {name: Column(getattr(view, name), amount=False) for name in times}
    columns |= {"first_ms": Column(rows["first_ms"].copy(), amount=False)}
    columns |= {name: Column(getattr(view, name), amount=False) for name in ("zone", "locale")}
    columns |= {
        "session_events": Column(view.session_n, declaration.session_gap_ms),
        "price_mean": Column(view.price_mean),
        "dwell_s": Column(view.dwell_s.astype(np.int64)),
        "hour_of_week": Column(view.hour_of_week.astype(np.int64), declaration.hour_of_week),
    }
    kept = tuple((k.name, k.history) for k in declaration.kinds)
    shown = tuple(scene for scene in declaration.scene if scene.name in ("page", "device"))
    entries = np.where(view.valid, view.kind.astype(np.int64) << 24, 0) + (
        (view.dwell.astype(np.int64) << 16) + (view.page.astype(np.int64) << 8) + view.device
    )
    for name, values in (("item", view.item), ("time", view.ts_s), ("entry", entries)):
        wide = np.zeros((len(rows), declaration.history), values.dtype)
        wide[:, : min(values.shape[1], declaration.history)] = values[:, : declaration.history]
        columns[f"history.{name}"] = Column(wide, (declaration.history, kept, shown), amount=False)
    return columns


def item_columns(layout: ItemLayout, blobs: Sequence[bytes | None], at_ms: NDArray[np.int64]) -> dict[str, Column]:
    """Every feature of items as a reader at `at_ms` i64[M] sees it; profiles as they are stored."""
    declaration, rows = layout.declaration, layout.unpack(blobs)
    view = item_view(layout, rows, at_ms, profiles=False)
    columns = _counted(declaration, [k.name for k in declaration.item_kinds], view.windows)
    columns |= {
        f"totals.{kind.name}": Column(view.totals[:, i].astype(np.int64))
        for i, kind in enumerate(declaration.item_kinds)
    }
    for name in declaration.profile_names:
        values = rows["profiles"][:, :, layout.field(name)].astype(np.int64)
        means = (declaration.period_ms, [s for s in declaration.scene if s.name == name])
        columns[f"profile.{name}"] = Column(values.reshape(len(rows), -1), means)
    return columns | {name: Column(rows[name].copy(), amount=False) for name in ("first_ms", "last_ms")}


def _counted(declaration: Declaration, kinds: Sequence[str], windows: NDArray[np.int64]) -> dict[str, Column]:
    return {
        f"windows.{kind}.{window.name}": Column(windows[:, k, w], window)
        for k, kind in enumerate(kinds)
        for w, window in enumerate(declaration.windows)
    }


@dataclass
class Apart:
    """One feature: in how many rows it differs, and the sum of their symmetric relative errors, where it has any."""

    rows: int = 0
    error: float = 0.0
    amount: bool = True

    @property
    def smape(self) -> float | None:
        """Mean symmetric relative error in per cent, of the rows in which the feature differs."""
        return 100 * self.error / self.rows if self.amount and self.rows else None


@dataclass
class Tally:
    """What a comparison of rows of one kind has found; `only` names the features that one side alone has."""

    compared: int = 0
    equal: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    features: dict[str, Apart] = field(default_factory=dict)
    only: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.different or self.missing or self.extra)

    def example(self, row_id: bytes, about: Mapping[str, Any]) -> None:
        """Keep the first few."""
        if len(self.examples) < EXAMPLES:
            self.examples.append({"id": row_id.decode("utf-8", "replace"), **about})

    def settle(self, ids: Sequence[bytes], a: Columns, b: Columns, *, strict: bool) -> None:
        """Count rows whose bytes differ, feature by feature.

        Those alike in every feature that both sides have are equal, unless `strict`: of one declaration's rows every
        byte counts.
        """
        shared = [name for name in a if name in b and a[name].means == b[name].means]
        apart = np.zeros(len(ids), np.bool_)
        told: dict[str, NDArray[np.bool_]] = {}
        for name in shared:
            differs = _differs(a[name].values, b[name].values)
            if differs.any():
                told[name] = differs
                apart |= differs
                known = self.features.setdefault(name, Apart(amount=a[name].amount))
                known.rows += int(differs.sum())
                if known.amount:
                    known.error += float(_errors(a[name].values[differs], b[name].values[differs]).sum())
        if strict and not apart.all():
            told[BYTES] = ~apart
            self.features.setdefault(BYTES, Apart(amount=False)).rows += int((~apart).sum())
            apart[:] = True
        self.only = {"features": (sorted(a.keys() - set(shared)), sorted(b.keys() - set(shared)))}
        self.different += int(apart.sum())
        self.equal += len(ids) - int(apart.sum())
        for at in np.flatnonzero(apart)[:EXAMPLES].tolist():
            names = [name for name, differs in told.items() if differs[at]]
            pairs = {name: [_plain(side[name].values[at]) for side in (a, b)] for name in names if name != BYTES}
            self.example(ids[at], {"features": pairs})


def _differs(a: Values, b: Values) -> NDArray[np.bool_]:
    unequal = a != b
    return np.asarray(unequal if unequal.ndim == 1 else unequal.reshape(len(a), -1).any(1))


def _errors(a: Values, b: Values) -> NDArray[np.float64]:
    """2 |a - b| / (|a| + |b|) of each row, over the sums where a row has several values."""
    wide = [np.asarray(side, np.float64).reshape(len(a), -1) for side in (a, b)]
    size = np.abs(wide[0]).sum(1) + np.abs(wide[1]).sum(1)
    return np.asarray(2 * np.abs(wide[0] - wide[1]).sum(1) / np.maximum(size, 1e-12), np.float64)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [int(each) for each in value.reshape(-1).tolist() if each][:12]
    plain = value.item()
    return plain.decode("ascii", "replace") if isinstance(plain, bytes) else plain
