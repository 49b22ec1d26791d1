"""Files are made ready for a back-fill: their events, and what they tell of items where a mapping says so."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streams.features.declaration import DEFAULT
from streams.replay.addition import notes
from streams.replay.lines import FileError
from streams.replay.sources import Prepared, prepare

MAPPING = """
[time]
column = "at"
unit = "s"
[event]
user_id = "who"
item_id = "what"
[[kind]]
kind = "click"
"""
CSV = "at,who,what,named\n1790000001,u,i1,Tea\n1790000000,u,i2,\n1790000002,v,i1,Tea\n1790000001,u,i1,Tea\n"


def prepared(folder: Path, item: str) -> Prepared:
    (folder / "shop.toml").write_text(MAPPING + item)
    (folder / "shop.csv").write_text(CSV)
    (folder / "ready").mkdir()
    return prepare(folder / "shop.csv", str(folder / "shop.toml"), DEFAULT, folder / "ready")


def test_a_mapped_file_keeps_its_order_and_its_items_are_offered(tmp_path: Path) -> None:
    file = prepared(tmp_path, '[item]\ntitle = "named"\n')
    events = [orjson.loads(line) for line in file.path.read_bytes().splitlines()]
    assert [(event["user_id"], event["item_id"]) for event in events] == [("u", "i1"), ("u", "i2"), ("v", "i1")]
    about, offer = notes([file], listing=False)
    assert about == "shop.csv: 4 lines: 3 events; left out: 1 duplicate"
    assert offer.startswith("shop.csv tells title of 2 items: with --catalogue they go into the catalogue of the run")
    assert notes([file], listing=True) == [about]
    job = file.catalogue(3)
    assert (job.topic, job.side, job.records) == ("file:items:shop.csv", "items", 2)
    assert [orjson.loads(line) for line in Path(job.path).read_bytes().splitlines()] == [
        {"item_id": "i2", "ts_ms": 1_790_000_000_000},
        {"item_id": "i1", "ts_ms": 1_790_000_002_000, "title": "Tea"},
    ]


def test_a_file_that_tells_no_items_says_so(tmp_path: Path) -> None:
    file = prepared(tmp_path, "")
    assert len(notes([file], listing=False)) == 1
    with pytest.raises(FileError, match=r"shop\.csv has no items to tell, its mapping has no \[item\]: leave"):
        file.catalogue(3)
    with pytest.raises(FileError, match="events tell no titles"):
        prepare(file.path, None, DEFAULT, tmp_path).catalogue(3)
