"""Lifts: how much oftener than everything an item is wanted in a scene; shrunk to its category's, to no opinion."""

from typing import NamedTuple

import numpy as np

from model_server.counters.items import Seen, scene_codes, scene_counters
from model_server.counters.names import scene_names
from model_server.item_sums import ItemSums
from model_server.retrieval.lifts import PRIOR, Lifts
from streams.features.declaration import DEFAULT
from streams.features.items import ItemEvents, ItemLayout, fold_items

T = 1_800_000_000_000
FIELDS = DEFAULT.profile_names
PHONE, DESKTOP = 1, 3
SIZES = [DEFAULT.size_of(name) for name in FIELDS]
FIRST = np.cumsum([0, *SIZES])


class Shop(NamedTuple):
    """Items of categories i32[M] (-1 for none) as they are seen now."""

    sums: ItemSums
    category: np.ndarray
    categories: int

    @property
    def lifts(self) -> Lifts:
        return Lifts(DEFAULT, self.sums.profile(T), self.category, self.categories)

    def of(self, item: list[int], **scene: int) -> dict[str, np.ndarray]:
        """The scene counters of items for one user in this scene."""
        at, codes = np.array([item]), np.zeros((1, len(DEFAULT.scene_names)), np.uint8)
        for field, code in scene.items():
            codes[0, DEFAULT.scene_names.index(field)] = code
        fields, asked, items = np.arange(len(FIELDS)), scene_codes(DEFAULT, codes), np.arange(len(self.category))
        expected = self.lifts.expected(fields, asked, self.category[at])
        seen = Seen(self.sums, items, items.astype(np.int32), T, at)
        counted = scene_counters(seen, fields, asked, *expected)[:, 0]
        return dict(zip(scene_names(DEFAULT), counted, strict=True))


def events(seed: int, count: int, items: int) -> tuple[np.ndarray, ItemEvents]:
    """Clicks of two months on items of their own habits, some fields of the scene unknown."""
    rng = np.random.default_rng(seed)
    item = rng.integers(0, items, count)
    codes = np.stack([(rng.integers(0, size, count) * (1 + item)) % size for size in SIZES], axis=1)
    ts_ms = T - rng.integers(0, 60 * 86_400_000, count)
    return item, ItemEvents(ts_ms, np.full(count, DEFAULT.code("click"), np.uint8), codes.astype(np.uint8))


def shop(item: np.ndarray, done: ItemEvents, category: list[int]) -> Shop:
    layout = ItemLayout(DEFAULT)
    rows = layout.empty(len(category))
    fold_items(layout, rows, item, done)
    return Shop(ItemSums.of(layout, rows), np.array(category, np.int32), max(category) + 1)


def told(devices: dict[int, list[int]], category: list[int]) -> Shop:
    """Clicks on each item on the devices listed, now."""
    item = np.repeat(list(devices), [len(codes) for codes in devices.values()])
    codes = np.zeros((len(item), len(FIELDS)), np.uint8)
    codes[:, FIELDS.index("hour")] = 13
    codes[:, FIELDS.index("device")] = np.concatenate([*devices.values()])
    kinds = np.full(len(item), DEFAULT.code("click"), np.uint8)
    return shop(item, ItemEvents(np.full(len(item), T), kinds, codes), category)


def test_a_lift_is_what_its_formula_says() -> None:
    made = told({0: [PHONE] * 30 + [DESKTOP] * 10, 1: [DESKTOP] * 40, 2: [PHONE] * 20}, [0, 0, 1])
    share = 50 / 100
    category = (30 + PRIOR) / (80 * share + PRIOR)
    wanted = np.log((30 + PRIOR * category) / (40 * share + PRIOR))
    np.testing.assert_allclose(made.of([0], device=PHONE)["scene_lift_device"], wanted, rtol=1e-6)


def test_an_unknown_value_has_no_lift_at_all() -> None:
    made = shop(*events(1, 3_000, 20), [item % 4 for item in range(20)])
    unknown = made.of(list(range(20)))
    assert all((unknown[f"scene_lift_{field}"] == 0).all() for field in FIELDS)
    known = made.of(list(range(20)), **dict.fromkeys(FIELDS, 1))
    assert all((known[f"scene_lift_{field}"] != 0).any() for field in FIELDS)


def test_an_item_nobody_has_seen_has_the_lift_of_its_category() -> None:
    made = told({0: [PHONE] * 90, 1: [DESKTOP] * 60, 2: [PHONE] * 5}, [0, 1, 1, 0, 1, -1])
    phone, desktop = (made.of([3, 4, 5], device=device)["scene_lift_device"] for device in (PHONE, DESKTOP))
    assert phone[0] > 0.3 > -0.3 > phone[1]
    assert desktop[1] > 0.3 > -0.3 > desktop[0]
    assert phone[2] == desktop[2] == 0  # without a category: everybody's
    column = FIRST[FIELDS.index("device")] + PHONE
    np.testing.assert_allclose(phone[:2], np.log(made.lifts.category[:2, column]), atol=1e-6)


def test_a_few_events_say_little_and_many_say_what_they_say() -> None:
    crowd = [PHONE, DESKTOP] * 500
    few, many = (told({0: [PHONE] * n, 1: crowd}, [-1, -1]).of([0], device=PHONE) for n in (2, 2_000))
    assert 0 < few["scene_lift_device"][0] < 0.25
    np.testing.assert_allclose(many["scene_lift_device"], np.log(3_000 / 2_500), rtol=0.1)


def test_a_common_value_lifts_nothing_that_follows_it() -> None:
    usual = [PHONE] * 60 + [DESKTOP] * 20
    made = told(dict.fromkeys(range(4), usual), [0, 0, 1, -1])
    for device in (PHONE, DESKTOP):
        np.testing.assert_allclose(made.of([0, 1, 2, 3], device=device)["scene_lift_device"], 0, atol=1e-6)


def test_a_value_that_nobody_has_seen_lifts_nothing() -> None:
    made = told({0: [PHONE] * 60, 1: [PHONE] * 20}, [0, -1])
    assert (made.of([0, 1], device=DESKTOP)["scene_lift_device"] == 0).all()


def test_midnight_is_between_two_hours() -> None:
    item, done = events(3, 4_000, 6)
    late = done.codes[:, FIELDS.index("hour")]
    late[item == 0] = 24
    made = shop(item, done, [-1] * 6)
    lifts = [float(made.of([0], hour=code)["scene_lift_hour"][0]) for code in (23, 24, 1, 12)]
    assert min(lifts[:3]) > 0.5 > lifts[3]


def test_lifts_do_not_depend_on_the_order_of_the_items() -> None:
    item, done = events(2, 20_000, 300)
    category = np.random.default_rng(2).integers(-1, 7, 300)
    one = shop(item, done, category.tolist())
    turned = np.random.default_rng(3).permutation(300)
    place = np.argsort(turned)
    other = shop(place[item], done, category[turned].tolist())
    assert (one.sums.profile(T) % 1 != 0).any()  # counts that fade
    assert one.lifts.share.tobytes() == other.lifts.share.tobytes()
    assert one.lifts.category.tobytes() == other.lifts.category.tobytes()


def test_a_category_newer_than_the_lifts_counts_as_none() -> None:
    made = told({0: [PHONE] * 90, 1: [DESKTOP] * 60}, [0, 1])
    code = np.ones((len(FIELDS), 1), np.int64)
    share, above = made.lifts.expected(np.arange(len(FIELDS)), code, np.array([[-1, 2, 9, 0]], np.int32))
    assert share.shape == (len(FIELDS), 1)
    assert above.shape == (len(FIELDS), 1, 4)
    assert (above[:, 0, :3] == 1).all()
    assert above[FIELDS.index("device"), 0, 3] > 1
