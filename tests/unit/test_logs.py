"""Foreign logs become cleaned wire events in the order of time, and every line left out is counted under its reason."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

from schemas.topics import KINDS, Topics
from streams.features import features_file
from streams.logs.columns import event_times_ms
from streams.logs.devices import scene_of_user_agent
from streams.logs.logs import Log, LogError, of_users, read_log
from streams.logs.mapping import (
    EVENT_FIELDS,
    ITEM_FIELDS,
    SCENE_FIELDS,
    Mapping,
    MappingError,
    load,
    parse,
)

SIMPLE = """
name = "simple"
[time]
column = "at"
unit = "s"
[event]
user_id = "who"
item_id = "what"
price = "cost"
[scene]
weather = {column = "sky", values = {sunny = "clear"}, default = "other"}
region = {columns = ["country", "state"], join = "-"}
[[kind]]
kind = "purchase"
column = "cost"
above = 0
[[kind]]
kind = "click"
[[drop]]
reason = "robot"
column = "who"
matches = "^bot"
[item]
title = "title"
"""

HEADER = "at,who,what,cost,sky,country,state,title"


def test_stamps_of_several_zones_and_of_none_are_the_moments_they_name() -> None:
    stamps = ["2023-11-14T22:13:20Z", "2023-11-14 23:13:20+01:00", "2023-11-14 23:13:20", "soon", None]
    found = event_times_ms(pd.Series(stamps, dtype=object), "text", "Europe/Paris")
    assert found.tolist() == [1_700_000_000_000] * 3 + [0, 0]


def simple(folder: Path, *rows: str, text: str = SIMPLE) -> Log:
    path = folder / "log.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", "utf-8")
    return read_log(path, parse(text, "simple"))


def bodies(log: Log) -> list[dict[str, Any]]:
    return [orjson.loads(event.value) for event in log.events]


def test_lines_become_wire_events_sorted_by_time_ties_in_the_order_of_the_file(tmp_path: Path) -> None:
    log = simple(
        tmp_path,
        "1700000300,ann,a,,sunny,BR,SP,Tea",
        "1700000100,bob,b,2.5,grey,BR,,咖啡",
        "1700000100,ann,c,,,,,",
    )
    assert [(e.ts_ms, e.stream, e.key) for e in log.events] == [
        (1700000100000, "orders", b"bob"),
        (1700000100000, "clicks", b"ann"),
        (1700000300000, "clicks", b"ann"),
    ]
    assert bodies(log)[0] == {
        "kind": "purchase",
        "ts_ms": 1700000100000,
        "user_id": "bob",
        "item_id": "b",
        "price": 2.5,
        "scene": {"weather": "other", "region": "BR"},
    }
    assert bodies(log)[1] == {
        "kind": "click",
        "ts_ms": 1700000100000,
        "user_id": "ann",
        "item_id": "c",
        "scene": {"weather": "other"},
    }
    assert bodies(log)[2]["scene"] == {"weather": "clear", "region": "BR-SP"}
    assert log.items["b"]["title"] == "咖啡"


def test_every_line_left_out_is_counted_under_the_first_reason_that_holds(tmp_path: Path) -> None:
    log = simple(
        tmp_path,
        "1700000000,ann,a,1,,,,",
        "1700000000,ann,a,1,,,,",
        "1700000000,,a,1,,,,",
        "1700000000,,,1,,,,",
        "1700000000,ann,,1,,,,",
        "1700000000,bot7,a,1,,,,",
        "yesterday,ann,a,1,,,,",
        "1700000000,ann,a,-4,,,,",
        "1700000000,ann,a,NaN,,,,",
        "1700000000,ann,a,much,,,,",
    )
    assert log.cleaning.dropped == {
        "duplicate": 1,
        "no user": 2,
        "no item": 1,
        "robot": 1,
        "no time": 1,
        "bad number": 3,
    }
    assert log.cleaning.lines == log.cleaning.events + sum(log.cleaning.dropped.values()) == 10
    assert "10 lines: 1 events" in str(log.cleaning)


def test_a_line_no_rule_fits_has_no_kind(tmp_path: Path) -> None:
    text = SIMPLE.replace('[[kind]]\nkind = "click"\n', "")
    log = simple(tmp_path, "1700000000,ann,a,0,,,,", "1700000000,ann,a,3,,,,", text=text)
    assert (len(log.events), log.cleaning.dropped) == (1, {"no kind": 1})


@pytest.mark.parametrize(
    ("stamp", "ts_ms"),
    [
        ("2010-01-15 12:30:00", 1263558600000),
        ("2010-07-15 12:30:00", 1279193400000),  # summer time: an hour earlier in UTC
        ("2010-10-31 01:30:00", 1288485000000),  # the doubled hour: its first pass
        ("2010-03-28 01:30:00", 1269738000000),  # the skipped hour: moved on to two o'clock summer time
    ],
)
def test_stamps_without_a_zone_are_local_to_the_zone_of_the_mapping(tmp_path: Path, stamp: str, ts_ms: int) -> None:
    text = SIMPLE.replace('unit = "s"', 'unit = "text"\nzone = "Europe/London"')
    assert simple(tmp_path, f"{stamp},ann,a,1,,,,", text=text).events[0].ts_ms == ts_ms


def test_ids_stay_the_strings_they_were_in_every_format(tmp_path: Path) -> None:
    wanted = [b"-8845298781299428018", b"007"]
    (tmp_path / "log.csv").write_text(
        f"{HEADER}\n1700000000,-8845298781299428018,1,1,,,,\n1700000001,007,1,1,,,,\n", "utf-8"
    )
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.write(tmp_path / "log.csv", "inner.csv")
    pd.read_csv(tmp_path / "log.csv", dtype={"who": str}).to_parquet(tmp_path / "log.parquet")
    line = {"what": 1, "cost": 1, "sky": None, "country": None, "state": None, "title": None}
    (tmp_path / "log.jsonl").write_bytes(
        orjson.dumps({"at": 1700000000, "who": -8845298781299428018, **line})
        + b"\n\n"
        + orjson.dumps({"at": 1700000001, "who": "007", **line})
    )
    for name in ("log.csv", "log.zip", "log.parquet", "log.jsonl"):
        log = read_log(tmp_path / name, parse(SIMPLE, "simple"))
        assert [event.key for event in log.events] == wanted, name
        assert [body["item_id"] for body in bodies(log)] == ["1", "1"], name


def test_a_float_column_of_ids_loses_its_point_zero_but_never_digits(tmp_path: Path) -> None:
    frame = pd.DataFrame(dict.fromkeys(HEADER.split(","), pd.Series([None] * 2, dtype=object)))
    frame["at"], frame["who"], frame["what"], frame["cost"] = 1700000000, [13085.0, float("nan")], "a", 1.0
    frame.to_parquet(tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet", parse(SIMPLE, "simple"))
    assert [event.key for event in log.events] == [b"13085"]
    frame["who"] = 2.0**60
    frame.to_parquet(tmp_path / "log.parquet")
    with pytest.raises(LogError, match="lost digits"):
        read_log(tmp_path / "log.parquet", parse(SIMPLE, "simple"))


def test_of_users_keeps_whole_histories_and_the_same_users_every_time(tmp_path: Path) -> None:
    log = simple(tmp_path, *(f"{1700000000 + i},user{i % 7},a,1,,,," for i in range(70)))
    some = of_users(log, 3)
    assert some.users == 3
    assert len(some.events) == 30
    assert some.events == of_users(log, 3).events
    assert set(some.events) < set(of_users(log, 4).events)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("log.csv", b"at,who\n1,2\n", "no column 'cost'"),
        ("log.csv", b"\xff\xfe" + HEADER.encode(), "malformed in line 1: it is not utf-8"),
        ("log.xlsx", b"PK", "neither .csv, .jsonl nor .parquet"),
        ("log.zip", b"no archive", "cannot be read"),
        ("log.jsonl", b"{", "malformed in line 1: it is no JSON"),
        ("log.parquet", b"PAR0", "malformed: "),
    ],
)
def test_a_log_that_cannot_be_read_is_named_with_the_fault(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogError, match=complaint):
        read_log(tmp_path / name, parse(SIMPLE, "simple"))


def test_a_log_that_is_not_there_and_a_zip_of_two_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="There is no file"):
        read_log(tmp_path / "absent.csv", parse(SIMPLE, "simple"))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "")
        archive.writestr("b.csv", "")
    with pytest.raises(LogError, match="holds 2 files"):
        read_log(tmp_path / "two.zip", parse(SIMPLE, "simple"))


def test_a_kind_of_the_shops_own_declaration_goes_to_its_topic(tmp_path: Path) -> None:
    text = SIMPLE.replace('kind = "click"', 'kind = "favourite"')
    (tmp_path / "features.toml").write_text('[kinds.favourite]\nwire = "favourite"\ntopic = "clicks"\n', "utf-8")
    mine = features_file.load(tmp_path / "features.toml")
    (tmp_path / "log.csv").write_text(f"{HEADER}\n1700000000,u,i,,x,,,\n", "utf-8")
    log = read_log(tmp_path / "log.csv", parse(text, "simple", mine))
    assert [event.stream for event in log.events] == ["clicks"]
    with pytest.raises(MappingError, match="favourite"):
        parse(text, "simple")


def test_a_wrong_mapping_lists_all_its_problems_at_once() -> None:
    text = """
    [time]
    column = "at"
    unit = "fortnights"
    zone = "Middle/Earth"
    [event]
    user_id = "who"
    colour = "red"
    [[kind]]
    kind = "glance"
    matches = "("
    """
    with pytest.raises(MappingError) as raised:
        parse(text, "mine.toml")
    for part in ("mine.toml", "fortnights", "Middle/Earth", "event.colour", "item_id is missing", "glance", "'('"):
        assert part in str(raised.value)
    with pytest.raises(MappingError, match="is not TOML"):
        parse("a = ", "mine.toml")
    with pytest.raises(MappingError, match="neither a built-in mapping"):
        load("nowhere.toml")


def test_a_mapping_of_ones_own_is_loaded_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SIMPLE, "utf-8")
    assert load(str(tmp_path / "mine.toml")) == parse(SIMPLE, "mine.toml")


@pytest.mark.parametrize("name", ["online-retail", "deskdrop"])
def test_the_built_in_mappings_name_only_kinds_and_topics_that_exist(name: str) -> None:
    mapping: Mapping = load(name)
    topics = Topics()
    for rule in mapping.kinds:
        assert any(rule.then in kinds for kinds in KINDS.values())
    assert {topics.clicks, topics.browses, topics.orders, topics.feedback} == set(KINDS)


@pytest.mark.parametrize(
    ("agent", "scene"),
    [
        ("Android - Native Mobile App", {"device": "phone", "os": "android", "app": "app"}),
        ("iOS - Native Mobile App", {"device": "phone", "os": "ios", "app": "app"}),
        (
            "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/51.0 Safari/537.36",
            {"device": "desktop", "os": "windows", "app": "web"},
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 9_3_2 like Mac OS X) AppleWebKit/601.1 (KHTML, like Gecko) Safari/601.1",
            {"device": "tablet", "os": "ios", "app": "web"},
        ),
        ("curl", {"device": "other", "os": "other", "app": "app"}),
    ],
)
def test_a_user_agent_tells_device_system_and_app(agent: str, scene: dict[str, str]) -> None:
    assert dict(scene_of_user_agent(agent)) == scene


def test_the_mapping_in_the_guide_is_one() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text("utf-8")
    mapping = parse(guide.split("```toml\n")[1].split("```")[0], "docs/logs.md")
    assert [rule.then for rule in (*mapping.kinds, *mapping.drops)] == ["return", "purchase", "not goods"]
    for field in (*EVENT_FIELDS, *SCENE_FIELDS, *ITEM_FIELDS):
        assert f"`{field}`" in guide or f"\n{field} = " in guide, field
