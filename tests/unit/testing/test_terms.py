"""The oracle knows the default declaration by heart, and judges any other by its own words."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.features.declaration import DEFAULT, DERIVED_FIELDS, Declaration
from streams.features.features_file import merge
from streams.testing import Draft, Harness, event, wrong_rows
from streams.testing.terms import TERMS, terms_of


def test_the_default_declaration_is_what_the_oracle_knows_by_heart() -> None:
    assert terms_of(DEFAULT) == TERMS


FLAGS = {name: st.booleans() for name in ("window", "history", "active", "item")}
OLD_KIND = st.fixed_dictionaries({}, optional=FLAGS)
NEW_KIND = st.fixed_dictionaries(
    {}, optional=FLAGS | {"topic": st.sampled_from(["clicks", "orders", "feedback"]), "priority": st.integers(0, 3)}
)
WORDS = st.sampled_from(
    [
        {"values": ["a", "b"]},
        {"values": ["a", "other"]},
        {"values": [], "buckets": 7},
        {"values": ["a"], "buckets": 3},
    ]
)
NUMBER = st.fixed_dictionaries(
    {"values": st.just(["1", "2", "3"]), "low": st.integers(-5, 5), "step": st.integers(1, 9)}
)
SECTIONS = {
    "kinds": {"wink": NEW_KIND, "click": OLD_KIND, "opted_out": st.just(False)},
    "windows": {"2h": st.just("2h"), "1min": st.just("1min"), "7d": st.just(False)},
    "scene": {
        "device": WORDS | st.just(False),
        "page": st.just(False),
        "place": WORDS | st.just(False),
        "temperature_c": NUMBER,
        "weather": st.just({"profile": False}),
    },
}


def declarations() -> st.SearchStrategy[Declaration]:
    sections = {name: st.fixed_dictionaries({}, optional=entries) for name, entries in SECTIONS.items()}
    numbers = {
        "history": st.sampled_from([1, 3, 200]),
        "hour_of_week": st.booleans(),
        "period_ms": st.sampled_from([86_400_000, 3_600_000]),
    }
    return st.fixed_dictionaries({}, optional={**sections, **numbers}).map(lambda chosen: merge(DEFAULT, chosen))


@st.composite
def shops(draw: st.DrawFn) -> tuple[Declaration, list[Draft]]:
    """A declaration, and events of its kinds."""
    declaration = draw(declarations())
    one = st.builds(
        event,
        st.sampled_from([kind.wire for kind in declaration.kinds]),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["i1", "i2"]),
        at=st.integers(0, 3_000_000).map(lambda seconds: f"-{seconds}s"),
        device=st.sampled_from(["a", "B ", "c", None]),
        place=st.sampled_from(["a", "moon", None]),
        page=st.sampled_from(["item", "elsewhere", None]),
        temperature_c=st.none() | st.integers(-30, 60),
        price=st.integers(0, 999).map(lambda cents: cents / 100),
    )
    return declaration, draw(st.lists(one, min_size=1, max_size=20))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shops())
def test_rows_of_any_declaration_are_those_of_the_oracle(shop: tuple[Declaration, list[Draft]]) -> None:
    declaration, events = shop
    kairos = Harness(declaration, partitions=1, item_partitions=1)
    kairos.publish(*events)
    kairos.run()
    assert not kairos.letters
    assert wrong_rows(kairos) == {}
    assert {field for field in declaration.scene_names if field not in DERIVED_FIELDS} == set(
        terms_of(declaration).scene
    )
