"""The mapping of a log is guessed from names and values, can be used, and says what it is not sure of."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.features.declaration import DEFAULT
from streams.logs.cleaning import Cleaner
from streams.logs.columns import Lines
from streams.logs.guess import Guess, guess, kind_of
from streams.logs.mapping import Mapping, parse
from streams.logs.pieces import Form

KINDS = frozenset(kind.wire for kind in DEFAULT.kinds)
MS = 1_700_000_000_000


def guessed(form: Form | None = None, **columns: Any) -> tuple[Guess, Mapping]:
    made = guess(Lines(pd.DataFrame(columns)), "shop", KINDS, form)
    return made, parse(made.toml, "shop")


def shop(**more: Any) -> dict[str, Any]:
    return {"Customer ID": ["a", "b"], "SKU": ["x", "y"], "event_time": ["1700000000", "1700000060"], **more}


@pytest.mark.parametrize(
    ("stamps", "unit"),
    [
        ([1_700_000_000, 1_700_000_060], "s"),
        (["1700000000000", "1700000060000"], "ms"),
        ([1_700_000_000_000_000, 1_700_000_060_000_000], "us"),
        (["2023-11-14T22:13:20Z", "2023-11-14T23:14:20+01:00"], "text"),
        (pd.to_datetime(["2023-11-14 22:13:20", "2023-11-14 22:14:20"]), "text"),
    ],
)
def test_the_unit_of_time_is_told_from_the_numbers(stamps: Any, unit: str) -> None:
    _, mapping = guessed(**(shop() | {"event_time": stamps}), event_type=["view", "buy"])
    assert mapping.time_unit == unit
    lines = Lines(pd.DataFrame(shop() | {"event_time": stamps, "event_type": ["view", "buy"]}))
    events = Cleaner(mapping).events(lines)
    assert [event.ts_ms for event in events] == [MS, MS + 60_000]
    assert [event.stream for event in events] == ["browses", "orders"]


def test_a_time_without_a_telling_name_is_found_by_its_values() -> None:
    _, mapping = guessed(user_id=["u"], item_id=["i"], c7=["1700000000"])
    assert (mapping.time_column, mapping.time_unit) == ("c7", "s")


def test_words_of_the_shop_become_kinds_and_the_others_are_told() -> None:
    made, mapping = guessed(**shop(action=["pageview", "remove_from_cart"]))
    assert [(rule.then, rule.matches) for rule in mapping.kinds] == [("browse", "^pageview$")]
    assert any("action = remove_from_cart (1 lines of the first) has no kind" in note for note in made.notes)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("purchase", "purchase"),
        ("ORDER_PLACED", "purchase"),
        ("addtocart", "add-to-cart"),
        ("Bookmark", "add-to-cart"),
        ("VIEW", "browse"),
        ("like", "click"),
        ("order cancelled", "return"),
        ("unlike", None),
        ("delete", None),
        ("heartbeat", None),
    ],
)
def test_what_a_word_means(word: str, kind: str | None) -> None:
    assert kind_of(word, KINDS) == kind


@pytest.mark.parametrize("word", ["wishbox", "Wishbox", "WISHBOX", "add_to_wishbox", "addToWishbox"])
def test_a_kind_that_the_shop_declares_comes_before_the_usual_words(word: str) -> None:
    assert kind_of(word, [*KINDS, "wishbox"]) == "wishbox"
    assert kind_of(word, KINDS) == "add-to-cart"


def test_without_a_kind_a_quantity_tells_purchases_and_returns_and_nothing_tells_clicks() -> None:
    _, mapping = guessed(**shop(qty=["2", "-1"]))
    assert [(rule.then, rule.column, rule.above, rule.below) for rule in mapping.kinds] == [
        ("return", "qty", None, 0.0),
        ("purchase", "qty", 0.0, None),
    ]
    _, mapping = guessed(**shop())
    assert [(rule.then, rule.column) for rule in mapping.kinds] == [("click", None)]


def test_columns_are_taken_once_and_what_is_left_is_told() -> None:
    made, mapping = guessed(**shop(user_agent=["m", "m"], colour=["r", "g"], price=["1", "2"]))
    assert mapping.event["user_id"].columns == ("Customer ID",)
    assert mapping.event["price"].columns == mapping.item["price"].columns == ("price",)
    assert mapping.scene["user_agent"].columns == ("user_agent",)
    assert "Not used: colour." in made.notes


def test_a_log_without_users_items_or_times_has_no_mapping() -> None:
    made = guess(Lines(pd.DataFrame({"colour": ["red"], "size": ["m"]})), "shop", KINDS)
    assert made.toml == ""
    assert made.missing == ["a time", "a user", "an item"]
    assert made.notes == ["No column looks like a time or a user or an item: columns are colour, size."]


def test_objects_within_a_line_are_left_alone() -> None:
    _, mapping = guessed(**shop(scene=[{"device": "phone"}, None]))
    assert mapping.scene == {}


def test_the_form_of_the_file_goes_into_the_mapping() -> None:
    _, mapping = guessed(Form("latin-1", ";"), **shop())
    assert (mapping.encoding, mapping.delimiter) == ("latin-1", ";")


@given(name=st.text(min_size=1, max_size=20), words=st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=2))
def test_whatever_the_names_and_words_the_mapping_can_be_parsed(name: str, words: list[str]) -> None:
    frame = pd.DataFrame(shop(kind=words) | {name + " ": ["1", "2"]})
    parse(guess(Lines(frame), name, KINDS).toml, "any")
