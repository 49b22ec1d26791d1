"""A shop's own declaration: one file over the default, every mistake named."""

import dataclasses
from pathlib import Path

import pytest

from streams.features.declaration import DEFAULT, DeclarationError, Window, length_ms
from streams.features.features_file import load
from streams.features.items import ItemLayout
from streams.features.rows import Layout


def write(folder: Path, text: str) -> Path:
    path = folder / "features.toml"
    path.write_text(text)
    return path


def test_a_new_kind_and_a_new_window_reach_rows_and_topics(tmp_path: Path) -> None:
    text = """
    history = 64
    [windows]
    "2h" = "2h"
    [kinds.favourite]
    wire = "favourite"
    topic = "clicks"
    window = true
    history = true
    active = true
    item = true
    priority = 1
    [scene.place]
    values = ["home", "gym"]
    """
    shop = load(write(tmp_path, text))
    assert shop.wire_kinds("clicks") == {"click", "favourite"}
    assert [w.name for w in shop.windows] == ["5min", "1h", "2h", "24h", "7d", "30d"], "readers take them by length"
    assert shop.size_of("place") == 3
    assert Layout(shop).dtype["windows"].shape == (7, 6, 12)
    assert ItemLayout(shop).dtype["totals"].shape == (5,)
    assert shop.schema != DEFAULT.schema


def test_false_takes_an_entry_out(tmp_path: Path) -> None:
    text = """
    [kinds]
    browse = false
    [windows]
    "30d" = false
    [scene]
    page = false
    """
    shop = load(write(tmp_path, text))
    assert "browse" not in shop.code_of_wire
    assert [w.name for w in shop.windows] == ["5min", "1h", "24h", "7d"]
    assert "page" not in shop.scene_names


def test_the_schema_number_changes_only_with_meaning(tmp_path: Path) -> None:
    assert load(write(tmp_path, "delays_ms = [1, 2, 3, 4]")).schema == DEFAULT.schema
    assert load(write(tmp_path, "session_gap_ms = 1000")).schema == DEFAULT.schema, "sessions are derived at read"
    assert load(write(tmp_path, "history = 127")).schema != DEFAULT.schema


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[windows]\nw = '5 minutes'", "no length of time"),
        ("[windows]\nw = 13", "does not divide into 12 buckets"),
        ("[kinds.a]\nwire = 'click'", "'click' is declared twice"),
        ("[scene.hour]\nvalues = ['x']", "'hour' is declared twice"),
        ("[scene.page]\nbuckets = 300", "at most 256"),
        ("[scene.os]\nprofile = true\n[scene.app]\nprofile = true", "at most 7"),
        ("history = 0", "between 1 and 65535"),
        ("colour = 1", "colour"),
        ("history = '9'", "history"),
        ("delays_ms = [1, 2]", "4 delays"),
        ("session_gap_ms = '30min'", "session_gap_ms"),
        ("[kinds.a]\npriority = 7", "kinds.a: priority 7"),
        ("[kinds.a]\ntopic = 'click'", "kinds.a: topic 'click' is none of clicks"),
        ("[kinds.a]\nwindow = 'yes'", "kinds.a: .*bool"),
        ("[kinds.a]\nname = 'z'", "kinds.a: there is no field 'name'"),
        ("kinds = 'all'", "kinds"),
        ("[scene.loyalty]\nbuckets = 4", "scene.loyalty: events do not carry it"),
        ("[scene.place]\nvalues = ['Home']", "lower case"),
        ("[scene.place]\nvalues = 'home'", "scene.place: "),
        ("[windows]\n5min = false\n1h = false\n24h = false\n7d = false\n30d = false", "no window left"),
        ("[kinds", "features.toml"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        load(write(tmp_path, text))


@pytest.mark.parametrize("lengths_ms", [(3_600_000, 300_000), (300_000, 300_000)])
def test_windows_out_of_order_are_refused_for_readers_take_the_last_as_the_longest(lengths_ms: tuple[int, int]) -> None:
    windows = tuple(Window(f"w{n}", length) for n, length in enumerate(lengths_ms))
    with pytest.raises(DeclarationError, match="from the shortest to the longest"):
        dataclasses.replace(DEFAULT, windows=windows)


def test_lengths_are_read_with_their_unit() -> None:
    assert [length_ms(x) for x in ("90s", "5min", "1h", "30d", 250)] == [90_000, 300_000, 3_600_000, 2_592_000_000, 250]


def test_a_kind_that_was_taken_out_has_no_code(tmp_path: Path) -> None:
    assert load(write(tmp_path, "[kinds]\npurchase = false")).code("purchase") == -1
