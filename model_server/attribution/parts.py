"""What is known of a user, part by part, and the same user with some of the parts unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from model_server.evaluation.groups import word_of
from model_server.facts import scene_now
from model_server.scoring import Requests
from streams.features.view import user_view

if TYPE_CHECKING:
    from model_server.attribution.shapley import Bools
    from model_server.scoring import I64, ItemState
    from streams.features.calendar import Calendar
    from streams.features.declaration import Declaration
    from streams.features.rows import Layout, Rows

Sort = Literal["scene", "history", "window", "user"]
EVENTS, LAST_SEEN, MEAN_PRICE = "all events", "last seen", "mean price"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOLIDAYS = ("no holiday", "eve of a holiday", "holiday", "day after a holiday")


@dataclass(frozen=True)
class Part:
    """One thing that is known of a user.

    scene: field and value. history: `name` is an item's id, `value` the kind of event, `times` how often, `age_ms` how
    long ago the newest was. window: its name and the events in it, `times`. user: all events ever (`times`), how long
    ago the last one was (`age_ms`), the mean price (`value`).
    """

    sort: Sort
    name: str
    value: str = ""
    times: int = 0
    age_ms: int = 0

    @property
    def key(self) -> str:
        """What tells it from every other part of the same user."""
        return f"{self.sort} {self.name}" + (f" {self.value}" if self.sort == "history" else "")


class Known:
    """One user as of `now_ms`; `row` is the stored one. Raises SchemaMismatchError on one of another declaration.

    `parts` are all that a ranker reads of a user: without any of them the user is as one that was never seen.
    """

    def __init__(
        self, layout: Layout, calendar: Calendar, items: ItemState, user: str, row: bytes | None, now_ms: int
    ) -> None:
        self.user, self.now_ms = user, now_ms
        self._layout = layout
        self._rows = layout.unpack([row])
        view = user_view(layout, self._rows, now_ms)
        self._scene = scene_now(layout.declaration, calendar, view, now_ms)
        self.requests = Requests([user], view, self._scene)
        fields = _fields(layout.declaration, self._scene[0].tolist())
        past, self._owner = _history(layout.declaration, items, self._rows, now_ms)
        windows = _windows(layout.declaration, view.windows[0].sum(0).tolist())
        numbers = _numbers(int(view.totals[0].sum()), int(view.idle_ms[0]), float(view.price_mean[0]))
        self.parts = (*fields.values(), *past, *windows.values(), *numbers)
        at = {part.key: place for place, part in enumerate(self.parts)}
        self._fields = {column: at[part.key] for column, part in fields.items()}
        self._windows = {column: at[part.key] for column, part in windows.items()}
        self._numbers = {part.name: at[part.key] for part in numbers}
        self._past = len(fields)

    def with_only(self, present: Bools) -> Requests:
        """The user V times, each with the parts of bool[V, P] alone."""
        times = len(present)
        view = user_view(self._layout, self._remembering(present), self.now_ms)
        scene, windows = np.repeat(self._scene, times, 0), view.windows.copy()
        for column, place in self._fields.items():
            scene[~present[:, place], column] = 0
        for column, place in self._windows.items():
            windows[~present[:, place], :, column] = 0
        hidden = {name: ~present[:, place] for name, place in self._numbers.items()}
        nowhere = np.zeros(times, np.bool_)
        view = view._replace(
            windows=windows,
            totals=np.where(hidden.get(EVENTS, nowhere)[:, None], np.uint32(0), view.totals),
            idle_ms=np.where(hidden.get(LAST_SEEN, nowhere), -1, view.idle_ms),
            price_mean=np.where(hidden.get(MEAN_PRICE, nowhere), np.float32(0), view.price_mean),
        )
        return Requests([self.user] * times, view, scene)

    def _remembering(self, present: Bools) -> Rows:
        """The row V times, each with those entries of its history that belong to a part of bool[V, P]."""
        rows = np.repeat(self._rows, len(present))
        kept = present[:, self._past + self._owner]
        n = len(self._owner)
        order = np.argsort(~kept, axis=1, kind="stable")
        rows["history"][:, :n] = rows["history"][np.arange(len(rows))[:, None], order]
        rows["history_n"] = kept.sum(1)
        return rows


def _fields(declaration: Declaration, codes: list[int]) -> dict[int, Part]:
    """Parts of the known fields of the scene, by their columns."""
    named = enumerate(zip(declaration.scene_names, codes, strict=True))
    return {column: Part("scene", name, _word(declaration, name, code)) for column, (name, code) in named if code}


def _word(declaration: Declaration, field: str, code: int) -> str:
    words = {"weekday": WEEKDAYS, "holiday": HOLIDAYS}.get(field)
    return words[code - 1] if words else word_of(declaration, field, code)


def _history(declaration: Declaration, items: ItemState, rows: Rows, now_ms: int) -> tuple[list[Part], I64]:
    """Parts of the history by item and kind, newest first, and the part of each entry i64[n], oldest entry first."""
    entries = rows["history"][0, : rows["history_n"][0]]
    codes, kinds = entries["item"], (entries["key"] >> np.uint64(24)).astype(np.uint8)
    ages_ms = np.maximum(now_ms - (entries["key"] >> np.uint64(32)).astype(np.int64) * 1000, 0)
    index = items.find(codes)
    owner, parts = np.empty(len(entries), np.int64), list[Part]()
    places: dict[tuple[int, int], int] = {}
    for entry in range(len(entries) - 1, -1, -1):
        place = places.setdefault((int(codes[entry]), int(kinds[entry])), len(places))
        owner[entry] = place
        if place == len(parts):
            name = items.ids[index[entry]] if index[entry] >= 0 else f"code {int(codes[entry]):016x}"
            times = int(((codes == codes[entry]) & (kinds == kinds[entry])).sum())
            parts.append(Part("history", name, declaration.kinds[kinds[entry]].name, times, int(ages_ms[entry])))
    return parts, owner


def _windows(declaration: Declaration, events: list[int]) -> dict[int, Part]:
    """Parts of the windows that hold events, by their columns."""
    named = enumerate(zip(declaration.windows, events, strict=True))
    return {column: Part("window", window.name, times=n) for column, (window, n) in named if n}


def _numbers(events: int, idle_ms: int, price: float) -> list[Part]:
    told = (
        Part("user", EVENTS, times=events) if events else None,
        Part("user", LAST_SEEN, age_ms=idle_ms) if idle_ms >= 0 else None,
        Part("user", MEAN_PRICE, f"{price:.2f}") if price else None,
    )
    return [part for part in told if part is not None]
