"""Local time by zone, holidays by country, zones by place."""

import numpy as np
import pytest

from schemas.events import Scene
from streams.features.calendar import (
    HOLIDAY_AFTER,
    HOLIDAY_DAY,
    HOLIDAY_EVE,
    HOLIDAY_NONE,
    Calendar,
    country_of,
    is_zone,
    zone_at,
    zone_code,
    zone_name,
)
from streams.features.columns import Encoder, code_of
from streams.features.declaration import DEFAULT, SceneField

NOON_MS = 1_751_630_400_000  # 2025-07-04 12:00 UTC, a Friday
DAY_MS = 86_400_000


def test_hours_are_those_of_the_zone_with_daylight_saving() -> None:
    calendar = Calendar("Europe/London")
    assert calendar.moment(0, NOON_MS)[:2] == (13, 4)
    assert calendar.moment(calendar.place("Asia/Kathmandu", None), NOON_MS)[:2] == (17, 4)
    assert calendar.moment(0, NOON_MS + 180 * DAY_MS).hour == 12


def test_holidays_have_an_eve_and_a_day_after() -> None:
    calendar = Calendar()
    place = calendar.place("America/New_York", "US")
    codes = [calendar.moment(place, NOON_MS + d * DAY_MS).holiday for d in (-2, -1, 0, 1)]
    assert codes == [HOLIDAY_NONE, HOLIDAY_EVE, HOLIDAY_DAY, HOLIDAY_AFTER]
    assert calendar.moment(calendar.place("UTC", "XX"), NOON_MS).holiday == 0, "an unknown country has no holidays"


def test_codes_of_moments_are_moments() -> None:
    calendar = Calendar()
    place = calendar.place("America/New_York", "US")
    [codes] = calendar.codes(np.array([place]), np.array([NOON_MS])).tolist()
    moment = calendar.moment(place, NOON_MS)
    assert codes == [moment.hour + 1, moment.weekday + 1, moment.holiday]


def test_zones_have_codes_that_lead_back() -> None:
    assert zone_name(zone_code("Asia/Shanghai")) == "Asia/Shanghai"
    assert zone_code("") == 0
    assert zone_name(0) is None
    assert not is_zone("Mars/Olympus")
    assert zone_at(31.2, 121.5) == "Asia/Shanghai"
    assert zone_at(99.0, 0.0) is None


def test_a_shop_whose_zone_does_not_exist_is_told() -> None:
    with pytest.raises(ValueError, match="'Mars/Olympus' is no time zone"):
        Calendar("Mars/Olympus")


@pytest.mark.parametrize(
    ("region", "locale", "country"),
    [("BR-SP", None, "BR"), ("GB", "pt-BR", "GB"), ("London", "en-GB", "GB"), (None, "zh", None), (None, None, None)],
)
def test_the_country_is_read_from_region_or_locale(region: str | None, locale: str | None, country: str | None) -> None:
    assert country_of(region, locale) == country


def test_a_scene_without_a_zone_takes_it_from_its_place() -> None:
    encoder = Encoder(DEFAULT)
    codes = encoder.scene_codes(Scene(lat=31.2, lon=121.5, device="Phone "), "cart", NOON_MS)
    scene = dict(zip(DEFAULT.scene_names, codes.tolist(), strict=True))
    assert (scene["hour"], scene["weekday"], scene["device"], scene["page"]) == (21, 5, 1, 5)


def test_scene_values_have_codes_for_the_unknown_and_the_other() -> None:
    device = SceneField("device", ("phone", "other"))
    values = {"phone": 1, "other": 2}
    assert [code_of(device, values, v) for v in (None, "", "PHONE", "fridge")] == [0, 0, 1, 2]
    steps = SceneField("temperature_c", ("a", "b", "c"), low=-10.0, step=10.0)
    assert [code_of(steps, {}, t) for t in (-99.0, -10.0, 0.0, 99.0, float("inf"))] == [1, 1, 2, 3, 0]
    region = SceneField("region", buckets=4)
    assert {code_of(region, {}, f"r{i}") for i in range(100)} == {1, 2, 3, 4}
