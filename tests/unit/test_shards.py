"""A shard is read back as it was written; of a folder of them only what is of the log, and follows, is taken."""

from pathlib import Path

import numpy as np
import pandas as pd

from model_server.training import shards
from model_server.training.recorded import Part, encode, together
from model_server.training.shards import Stretch
from streams.features.declaration import DEFAULT
from tests.shoplog import raw_events

SIGN = "0123456789abcdef"


def part(count: int = 300) -> Part:
    return encode(list(raw_events(1, users=20, items=30, events=count)), DEFAULT, "UTC")


def test_a_part_is_read_as_it_was_written_and_by_pandas_too(tmp_path: Path) -> None:
    written = part()._replace(rejected=3)
    path = shards.path_of(tmp_path, Stretch("clicks", 0, 0, 300), SIGN)
    shards.write(path, written, DEFAULT)
    found = shards.read(path, DEFAULT)
    assert found.rejected == 3
    whole = [together([one], {}) for one in (written, found)]
    assert whole[0].user_ids == whole[1].user_ids
    assert whole[0].item_ids == whole[1].item_ids
    np.testing.assert_array_equal(whole[0].user, whole[1].user)
    for name, column in whole[0].columns._asdict().items():
        np.testing.assert_array_equal(column, getattr(whole[1].columns, name), err_msg=name)
    table = pd.read_parquet(path)
    assert table["user"].nunique() == len(written.user_ids)
    assert {f"scene_{name}" for name in DEFAULT.scene_names} < {*table.columns}
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_part_without_events_is_one(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    shards.write(path, encode((), DEFAULT, "UTC"), DEFAULT)
    found = shards.read(path, DEFAULT)
    assert (found.columns.size, found.user_ids, found.rejected) == (0, [], 0)
    assert len(together([found, part(10)], {})) == 10


def test_parts_together_are_the_log_that_was_never_parted() -> None:
    events = list(raw_events(1, users=20, items=30, events=400))
    whole = together([encode(events, DEFAULT, "UTC")], {})
    parted = together([encode(events[at : at + 150], DEFAULT, "UTC") for at in (0, 150, 300)], {})
    assert (whole.user_ids, whole.item_ids) == (parted.user_ids, parted.item_ids)
    np.testing.assert_array_equal(whole.user, parted.user)
    np.testing.assert_array_equal(whole.item, parted.item)
    np.testing.assert_array_equal(whole.columns.ts_ms, parted.columns.ts_ms)


def test_what_people_did_until_they_were_erased_goes_with_their_names() -> None:
    whole = part()
    log = together([whole], {})
    name, other = log.user_ids[:2]
    until_ms = int(np.median(log.columns.ts_ms[log.user == 1]))
    left = together([whole.without({name: 2**61, other: until_ms, "nobody": 2**61})], {})
    later = int((log.columns.ts_ms[log.user == 1] > until_ms).sum())
    assert left.user_ids == log.user_ids[1:]
    assert int((left.user == 0).sum()) == later > 0
    assert whole.without({"nobody": 1}) is whole


def test_only_shards_of_the_log_that_follow_each_other_are_held(tmp_path: Path) -> None:
    follow = [Stretch("clicks", 0, 0, 100), Stretch("clicks", 0, 100, 250), Stretch("clicks", 1, 50, 80)]
    others = [Stretch("clicks", 0, 90, 120), Stretch("clicks", 2, 0, 999), Stretch("orders", 0, 0, 10)]
    for stretch in (*follow, *others):
        shards.path_of(tmp_path, stretch, SIGN).touch()
    shards.path_of(tmp_path, Stretch("clicks", 0, 250, 300), "f" * 16).touch()
    (tmp_path / "notes.parquet").touch()
    ends = {("clicks", 0): 400, ("clicks", 1): 80, ("clicks", 2): 500, ("orders", 0): 10}
    held = shards.kept(tmp_path, {"clicks": SIGN}, ends)
    assert held == follow
    first = {("clicks", 0): 120, ("clicks", 1): 0, ("clicks", 2): 5, ("orders", 0): 0}
    assert shards.missing(held, first, ends, most=300) == [
        Stretch("clicks", 0, 250, 400),
        Stretch("clicks", 1, 0, 50),
        Stretch("clicks", 2, 5, 305),
        Stretch("clicks", 2, 305, 500),
        Stretch("orders", 0, 0, 10),
    ]


def test_what_a_killed_process_did_not_write_is_missed_and_what_retention_took_is_not() -> None:
    held = [Stretch("clicks", 0, 0, 100), Stretch("clicks", 0, 300, 400), Stretch("clicks", 0, 500, 600)]
    assert shards.missing(held, {("clicks", 0): 0}, {("clicks", 0): 650}, most=150) == [
        Stretch("clicks", 0, 100, 250),
        Stretch("clicks", 0, 250, 300),
        Stretch("clicks", 0, 400, 500),
        Stretch("clicks", 0, 600, 650),
    ]
    assert shards.missing(held, {("clicks", 0): 550}, {("clicks", 0): 650}, most=150) == [
        Stretch("clicks", 0, 600, 650)
    ]


def test_a_mark_says_which_topic_declaration_and_zone() -> None:
    signs = {
        shards.mark("a", DEFAULT, "UTC"),
        shards.mark("b", DEFAULT, "UTC"),
        shards.mark("a", DEFAULT, "Asia/Tokyo"),
    }
    assert len(signs) == 3
    assert all(shards.NAME.fullmatch(f"t-0-{0:016}-{1:016}-{sign}.parquet") for sign in signs)
