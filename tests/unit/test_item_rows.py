"""The rules of an item's row."""

import numpy as np
import pytest

from streams.features.declaration import DEFAULT
from streams.features.features_file import merge
from streams.features.items import ItemEvents, ItemLayout, fold_items, item_view
from streams.features.rows import SchemaMismatchError

T0 = 1_760_000_400_000
HOUR, DAY = 3_600_000, 86_400_000
LAYOUT = ItemLayout(DEFAULT)
FIELDS = DEFAULT.profile_names


def events(ts_ms: list[int], kinds: list[str] | None = None, **codes: int) -> ItemEvents:
    n = len(ts_ms)
    table = np.zeros((n, len(FIELDS)), np.uint8)
    for name, code in codes.items():
        table[:, FIELDS.index(name)] = code
    kind = np.array([DEFAULT.code(k) for k in kinds or ["click"] * n], np.uint8)
    return ItemEvents(np.array(ts_ms, np.int64), kind, table)


def test_windows_totals_and_times_follow_event_time() -> None:
    rows = LAYOUT.empty(1)
    fold_items(
        LAYOUT, rows, np.zeros(3, np.int64), events([T0, T0 - HOUR * 3, T0 - DAY * 2], ["click", "click", "purchase"])
    )
    view = item_view(LAYOUT, rows, T0)
    windows = dict(zip([w.name for w in DEFAULT.windows], view.windows[0].T.tolist(), strict=True))
    assert windows["1h"] == [1, 0, 0, 0]
    assert windows["24h"] == [2, 0, 0, 0]
    assert windows["7d"] == [2, 0, 0, 1]
    assert view.totals[0].tolist() == [2, 0, 0, 1]
    assert (view.idle_ms[0], view.age_ms[0]) == (0, 2 * DAY)
    assert item_view(LAYOUT, rows, T0 + 2 * HOUR).windows[0, 0, 1] == 0


def test_kinds_that_items_do_not_count_touch_nothing() -> None:
    rows = LAYOUT.empty(1)
    touched = fold_items(LAYOUT, rows, np.zeros(1, np.int64), events([T0], ["pushed"]))
    assert len(touched) == 0
    assert item_view(LAYOUT, rows, T0).idle_ms[0] == -1


def test_a_profile_fades_over_the_epoch_after_its_own() -> None:
    rows = LAYOUT.empty(1)
    start = T0 - T0 % DEFAULT.period_ms
    fold_items(LAYOUT, rows, np.zeros(1, np.int64), events([start], device=2, hour=9))
    at = [
        float(item_view(LAYOUT, rows, start + int(x * DEFAULT.period_ms)).profiles["device"][0, 2])
        for x in (0.9, 1.0, 1.5, 2.0)
    ]
    assert at == [1.0, 1.0, 0.5, 0.0]
    assert item_view(LAYOUT, rows, start).profiles["hour"][0, 9] == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_a_row_is_a_function_of_the_set_of_its_events(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 500
    slot = rng.integers(0, 5, n)
    codes = np.stack([rng.integers(0, DEFAULT.size_of(f), n) for f in FIELDS], 1).astype(np.uint8)
    whole = ItemEvents(
        T0 + rng.integers(0, 90 * DAY, n), rng.integers(0, len(DEFAULT.kinds), n).astype(np.uint8), codes
    )
    made = []
    for chunk in (1, 13, n):
        rows, order = LAYOUT.empty(5), rng.permutation(n)
        for i in range(0, n, chunk):
            part = order[i : i + chunk]
            fold_items(LAYOUT, rows, slot[part], ItemEvents._make(column[part] for column in whole))
        made.append([bytes(b) for b in LAYOUT.pack(rows)])
    assert made[0] == made[1] == made[2]
    assert LAYOUT.pack(LAYOUT.unpack([*made[0], None]))[0] == made[0][0]


def test_a_row_of_another_declaration_is_refused() -> None:
    other = ItemLayout(merge(DEFAULT, {"period_ms": 7 * DAY}))
    rows = LAYOUT.empty(1)
    fold_items(LAYOUT, rows, np.zeros(1, np.int64), events([T0]))
    with pytest.raises(SchemaMismatchError, match="build rows under the new one beside these, by `kairos replay"):
        other.unpack([bytes(LAYOUT.pack(rows)[0])])


def test_no_rows_have_no_blobs() -> None:
    assert LAYOUT.pack(LAYOUT.empty(4), np.empty(0, np.int64)) == []
    assert len(LAYOUT.unpack([])) == 0
