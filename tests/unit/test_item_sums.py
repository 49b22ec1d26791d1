"""Item sums: an item read as of any moment is what its row says then, whatever was summed before."""

import numpy as np
import pytest

from model_server.item_sums import STRONG_WINDOWS, ItemSums
from streams.features.declaration import DEFAULT
from streams.features.items import ItemEvents, ItemLayout, fold_items, item_view
from streams.features.rows import Rows

DAY = 86_400_000
T = 1_800_000_000_000
LAYOUT = ItemLayout(DEFAULT)
STRONG = np.array([kind.strong for kind in DEFAULT.item_kinds])


def folded(items: int, events: int) -> Rows:
    """Rows of items, the last one never seen, with events of every age that a row keeps and older ones."""
    rng = np.random.default_rng(4)
    kinds = [DEFAULT.code(kind.name) for kind in DEFAULT.item_kinds]
    codes = np.stack([rng.integers(0, DEFAULT.size_of(name), events) for name in DEFAULT.profile_names], axis=1)
    ts_ms = T - (10 ** rng.uniform(0, np.log10(60 * DAY), events)).astype(np.int64)
    rows = LAYOUT.empty(items)
    for part in np.array_split(np.arange(events), 7):
        event = ItemEvents(ts_ms[part], rng.choice(kinds, len(part)).astype(np.uint8), codes[part].astype(np.uint8))
        fold_items(LAYOUT, rows, rng.integers(0, items - 1, len(part)), event)
    return rows


@pytest.mark.parametrize("later_ms", [-DAY, 0, 40_000, 3_600_000, DAY, 8 * DAY, 35 * DAY, 100 * DAY])
def test_sums_are_those_of_the_view_at_every_moment(later_ms: int) -> None:
    rows = folded(60, 8_000)
    sums, every, now_ms = ItemSums.of(LAYOUT, rows), slice(None), T + later_ms
    view = item_view(LAYOUT, rows, now_ms)
    windows = sums.windows(every, now_ms)
    assert windows[:, : len(DEFAULT.windows)].tolist() == view.windows.sum(1).tolist()
    strong = view.windows[:, STRONG, -STRONG_WINDOWS:].sum(1)
    assert windows[:, len(DEFAULT.windows) :].tolist() == strong.tolist()
    assert sums.totals.tolist() == view.totals.sum(1).tolist()
    assert sums.strong.tolist() == view.totals[:, STRONG].sum(1).tolist()
    for found, wanted in zip(sums.ages_ms(every, now_ms), (view.idle_ms, view.age_ms), strict=True):
        assert found.tolist() == wanted.tolist()
    profile = sums.profile(now_ms)
    for name, of_field in view.profiles.items():
        assert profile[:, LAYOUT.field(name)].tobytes() == of_field.tobytes()


def test_the_known_codes_of_a_field_are_summed_in_each_period() -> None:
    sums = ItemSums.of(LAYOUT, folded(60, 8_000))
    for field, name in enumerate(DEFAULT.profile_names):
        known = sums.profiles[:, LAYOUT.field(name)][:, 1:].sum(1)
        assert sums.known[:, field].tolist() == known.tolist()
        assert known.any()


def test_rows_are_read_each_as_of_its_own_moment() -> None:
    sums = ItemSums.of(LAYOUT, folded(60, 8_000))
    row, now_ms = np.array([3, 3, 7, 59]), T + np.array([0, 9 * DAY, DAY, 0])
    for at, (one, when) in enumerate(zip(row.tolist(), now_ms.tolist(), strict=True)):
        alone = np.array([one])
        assert sums.windows(row, now_ms)[at].tolist() == sums.windows(alone, when)[0].tolist()
        assert [age[at] for age in sums.ages_ms(row, now_ms)] == [age[0] for age in sums.ages_ms(alone, when)]
        assert sums.weights(row, now_ms)[:, at].tolist() == sums.weights(alone, when)[:, 0].tolist()


def test_items_are_taken_over_where_they_stand_and_stay_when_room_is_made() -> None:
    rows = folded(60, 8_000)
    whole = ItemSums.of(LAYOUT, rows)
    some = ItemSums.of(LAYOUT, LAYOUT.empty(10)).grown(60)
    for part in (np.array([5, 0, 59]), np.setdiff1d(np.arange(60), [5, 0, 59])):
        some.put(part, ItemSums.of(LAYOUT, rows[part]))
    for name in ("first_ms", "counts", "profiles", "known"):
        assert getattr(some, name).tobytes() == getattr(whole, name).tobytes()
    assert some.at(np.array([5])).counts.tolist() == whole.counts[5:6].tolist()
