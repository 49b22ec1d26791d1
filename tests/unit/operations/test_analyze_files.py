"""`kairos analyze` over files: what it prints can be used, and what cannot be read is said with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy import cli
from streams.logs.logs import read_log
from streams.logs.mapping import load
from tests.unit.operations.test_analyze import log


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = cli.main(["analyze", *argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_file_of_our_own_events_needs_no_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now_ms = 1_750_000_000_000
    scene = {"device": "phone", "lat": 1.5}
    rows: list[dict[str, Any]] = [
        {"user_id": "a", "item_id": "i", "kind": "click", "ts_ms": now_ms, "scene": scene, "event_id": "1"},
        {"user_id": 7, "item_id": "i", "kind": "purchase", "ts_ms": now_ms // 1000, "price": 2.5, "event_id": "1"},
        {"user_id": "a", "item_id": "i", "kind": "sneeze", "ts_ms": now_ms},
        {"user_id": "b", "item_id": "i", "kind": "browse", "ts_ms": now_ms, "scene": {"lat": 91}},
    ]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    code, out, _ = run(capsys, str(path), "--json")
    known = orjson.loads(out)
    assert code == 1  # half of them would be dead letters
    assert (known["lines"], known["events"]) == (4, 2)
    assert known["rejects"] == {"kind": 1, "scene": 1}
    assert known["results"] == {"seconds": 1}
    assert known["kinds"]["unknown"] == {"sneeze": 1}
    assert known["duplicates"]["n"] == 1
    assert known["mapping"]["notes"] == ["The lines are events in our own schema: no mapping is needed."]


def test_the_mapping_that_is_printed_works_when_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report, mapping = tmp_path / "shop.csv", tmp_path / "report.md", tmp_path / "shop.toml"
    columns = {
        "id": "event_id",
        "at": "timestamp",
        "who": "user_id",
        "what": "item_id",
        "did": "event",
        "cost": "price",
    }
    frame = log(300).rename(columns=columns)
    frame["timestamp"] = [str(int(ms) - 300 * 86_400_000) for ms in frame["timestamp"]]  # in everybody's past
    frame.to_csv(path, index=False)
    code, out, _ = run(capsys, str(path), "--json", "--report", str(report), "--write-map", str(mapping))
    guessed = orjson.loads(out)
    assert guessed["mapping"]["toml"] == mapping.read_text()
    assert "```toml\n" + mapping.read_text().strip() in report.read_text()
    again_code, out, _ = run(capsys, str(path), "--json", "--map", str(mapping))
    given = orjson.loads(out)
    assert (again_code, given["events"], given["left_out"]) == (code, guessed["events"], guessed["left_out"])
    assert guessed["events"] > 0
    # `kairos demo --events` and `kairos train --events` read a log by this.
    read = read_log(path, load(str(mapping)))
    assert read.cleaning.events == guessed["events"] + sum(guessed["rejects"].values())
    assert read.cleaning.dropped == guessed["left_out"]


@pytest.mark.parametrize(
    ("content", "argv", "said"),
    [
        (
            "who,what\na,b\nc,d,e\n",
            [],
            "shop.csv is malformed in line 3: it has 3 fields, the first line has 2. Good lines before it: 1.",
        ),
        ("colour\nred\n", ["--map", "deskdrop"], "shop.csv has no column 'contentId', "),
        ("colour\nred\n", ["--map", "none.toml"], "none.toml is neither a built-in mapping (online-retail, deskdrop)"),
        ("", [], "shop.csv is empty"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, argv: list[str], said: str
) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(content)
    code, out, err = run(capsys, str(path), *argv)
    assert code == 1
    assert out == ""
    assert err.startswith(said)


def test_a_log_without_users_says_so_and_which_columns_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.csv"
    path.write_text("colour,size\nred,m\nred,m\n")
    code, out, _ = run(capsys, str(path))
    assert code == 1
    assert "| bad | No column looks like a time or a user or an item." in out
    assert "columns are colour, size" in out
    assert "1 lines (50.00%) come twice" in out


def test_a_file_that_is_not_there_is_no_topic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, str(tmp_path / "none.csv"))
    assert (code, err) == (1, f"There is no file {tmp_path / 'none.csv'}.\n")
