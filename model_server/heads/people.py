"""What is known of a user at the moment of asking, whatever the candidate: the columns that side heads look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model_server.heads.logistic import F64
    from streams.features.declaration import Declaration
    from streams.features.view import UserView

HOURS = 24
ALONE = 9
"""Columns besides the windows."""


def person_columns(declaration: Declaration, view: UserView, scene: NDArray[np.uint8]) -> F64:
    """Columns f64[U, D] of U users under scenes u8[U, S]; D depends on the declaration alone."""
    hour, weekday = (scene[:, declaration.scene_names.index(name)].astype(np.int64) for name in ("hour", "weekday"))
    angle, known = 2 * np.pi / HOURS * (hour - 1), hour > 0
    alone = (
        np.log1p(np.maximum(view.idle_ms, 0) / 1000),
        np.log1p(np.maximum(view.age_ms, 0) / 1000),
        np.log1p(view.valid.sum(1)),
        np.log1p(np.where(view.in_session, view.session_n, 0)),
        *_habit(view, hour, weekday),
        np.where(known, np.sin(angle), 0.0),
        np.where(known, np.cos(angle), 0.0),
        weekday >= 6,
    )
    windows = np.log1p(np.maximum(view.windows, 0)).reshape(view.size, width(declaration) - ALONE)
    return np.concatenate((windows, np.stack(alone, axis=1)), axis=1, dtype=np.float64)


def width(declaration: Declaration) -> int:
    """How many columns there are."""
    return len(declaration.window_kinds) * len(declaration.windows) + ALONE


def _habit(view: UserView, hour: NDArray[np.int64], weekday: NDArray[np.int64]) -> tuple[F64, F64]:
    """How often the user was here at this hour ± 1, on this day of the week and on any, as log1p."""
    week = view.hour_of_week.astype(np.float64).reshape(view.size, 7, HOURS)
    known, user = (hour > 0) & (weekday > 0), np.arange(view.size)
    around = [(hour - 1 + step) % HOURS for step in (-1, 0, 1)]
    today = sum(week[user, np.maximum(weekday - 1, 0), at] for at in around)
    ever = sum(week.sum(1)[user, at] for at in around)
    return tuple(np.where(known, np.log1p(part), 0.0) for part in (today, ever))  # type: ignore[return-value]
