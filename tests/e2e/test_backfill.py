"""`kairos backfill` on real servers: each kind of file, killed and resumed, and joined with the log exactly."""

from __future__ import annotations

import csv
import random
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.replay.moments import iso
from tests.installation import Installation, Sent, events
from tests.replayed import Killable, beside, done, kairos, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MAPPING = """
name = "shop"
[time]
column = "at"
unit = "ms"
[event]
user_id = "who"
item_id = "what"
[[kind]]
kind = "purchase"
column = "did"
matches = "^buy$"
[[kind]]
kind = "click"
"""


@pytest.fixture
def made(installation: Installation) -> Installation:
    return installation


def run_of(made: Installation, word: str) -> str:
    return f"{made.keys.namespace}-{word}"


def written(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


async def test_a_file_of_our_own_events_comes_to_the_rows_of_the_log(made: Installation, tmp_path: Path) -> None:
    sent = events(made.topics, 3000)
    await made.send(sent)
    made.worker()
    await made.applied()
    lines = [record.value or b"" for record in sent]
    random.Random(1).shuffle(lines)
    plain = written(tmp_path / "past.jsonl", [*lines[:10], b"", *lines[10:]])
    with zipfile.ZipFile(tmp_path / "zipped.jsonl.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain, "past.jsonl")

    for word, path, options in (("plain", plain, ["--processes", "2"]), ("zip", tmp_path / "zipped.jsonl.zip", [])):
        told = await done(made, "backfill", str(path), "--into", run_of(made, word), *options, "--execute")
        assert told["counts"]["events"] == 3000
        assert await rows(beside(made, run_of(made, word))) == await rows(made)

    again = await done(made, "backfill", str(plain), "--into", run_of(made, "plain"), "--execute")
    assert again["counts"]["events"] == 0
    assert await rows(beside(made, run_of(made, "plain"))) == await rows(made)
    twin = written(tmp_path / "copy.jsonl", plain.read_bytes().splitlines())
    refused = await kairos(made, "backfill", str(twin), "--into", run_of(made, "plain"))
    assert (refused.returncode, "they would count twice" in refused.stderr) == (78, True)
    other = written(plain, lines[:100])
    refused = await kairos(made, "backfill", str(other), "--into", run_of(made, "plain"))
    assert (refused.returncode, "with other content" in refused.stderr) == (78, True)


async def test_a_backfill_that_is_killed_goes_on_where_it_stood(made: Installation, tmp_path: Path) -> None:
    sent = events(made.topics, 3000)
    path = written(tmp_path / "past.jsonl", [record.value or b"" for record in sent])
    whole, killed = run_of(made, "whole"), run_of(made, "killed")
    await done(made, "backfill", str(path), "--into", whole, "--execute")
    command = ("backfill", str(path), "--into", killed, "--execute")
    under_way = Killable(made, *command, "--rate", "1000")

    # Fences are positions in the one file here, of each of four partitions.
    await under_way.until_in_the_middle(killed, 3000, 11_000)
    under_way.kill_children()
    assert (await under_way.ended())[0] == 1
    again = await done(made, *command)
    assert 0 < again["counts"]["events"] < 3000
    assert await rows(beside(made, killed)) == await rows(beside(made, whole))


async def test_a_backfill_joins_the_live_tail_at_an_exact_moment(made: Installation, tmp_path: Path) -> None:
    sent = events(made.topics, 2000)
    times = sorted(record.event["ts_ms"] for record in sent if record.event)
    moment_ms = times[1000] // 1000 * 1000
    await made.send(sent)
    path = written(tmp_path / "past.jsonl", [record.value or b"" for record in sent])
    run, when = run_of(made, "joined"), iso(moment_ms)
    await done(made, "backfill", str(path), "--into", run, "--until", when, "--execute")
    await done(made, "replay", "--into", run, "--from", when, "--lead-in", "0", "--execute")
    await made.send(events(made.topics, 300, seed=2))
    beside(made, run).worker(KAIROS_NAMESPACE=run)
    made.worker()
    await made.applied()
    await beside(made, run).applied()
    assert await rows(beside(made, run)) == await rows(made)


def shop_lines(n: int) -> list[dict[str, Any]]:
    drawn = random.Random(5)
    return [
        {
            "at": 1_790_000_000_000 + drawn.randrange(10_000_000),
            "who": f"u{drawn.randrange(40)}",
            "what": f"i{drawn.randrange(20)}",
            "did": drawn.choice(["buy", "look"]),
        }
        for _ in range(n)
    ]


async def test_tables_and_columns_come_to_the_same_rows(made: Installation, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    found, mapping = shop_lines(500), tmp_path / "shop.toml"
    mapping.write_text(MAPPING)
    with (tmp_path / "log.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(found[0]))
        table.writeheader()
        table.writerows(found)
    pandas.DataFrame(found).to_parquet(tmp_path / "log.parquet")
    written(tmp_path / "log.jsonl", [orjson.dumps(line) for line in found])
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.write(tmp_path / "log.csv", "log.csv")
    come = []
    for name in ("log.csv", "log.parquet", "log.jsonl", "log.zip"):
        run = run_of(made, name)
        told = await done(made, "backfill", str(tmp_path / name), "--map", str(mapping), "--into", run, "--execute")
        assert told["counts"]["events"] == 500
        come.append(await rows(beside(made, run)))
    assert len(come[0]["users"]) == 40
    assert come[1:] == [come[0]] * 3


async def test_the_log_has_the_last_word_on_items_that_a_file_tells(made: Installation, tmp_path: Path) -> None:
    mapping, run = tmp_path / "shop.toml", run_of(made, "told")
    mapping.write_text(MAPPING + '[item]\ntitle = "named"\n')
    lines = [{"at": 1_790_000_000_000 + n, "who": "u", "what": f"i{n}", "did": "buy", "named": "old"} for n in range(4)]
    path = written(tmp_path / "shop.jsonl", [orjson.dumps(line) for line in lines])
    more = written(tmp_path / "more.jsonl", [orjson.dumps(line | {"who": "v"}) for line in lines])
    options = ("--map", str(mapping), "--into", run, "--catalogue")
    item = orjson.dumps({"item_id": "i1", "title": "new"})
    await made.send([Sent(made.topics.items, b"i1", item), Sent(made.topics.items, b"i2", None)])

    await done(made, "backfill", str(path), *options, "--execute")
    catalogue = (await rows(beside(made, run)))["catalogue"]
    titles = {name: orjson.loads(entry)["title"] for name, entry in catalogue.items()}
    assert titles == {"i0": "old", "i1": "new", "i3": "old"}
    refused = await kairos(made, "backfill", str(more), *options)
    assert (refused.returncode, "has read items.v1 already" in refused.stderr) == (78, True)


async def test_files_that_cannot_be_used_are_refused_with_a_sentence(made: Installation, tmp_path: Path) -> None:
    good = [record.value or b"" for record in events(made.topics, 20)]
    mapping = tmp_path / "shop.toml"
    mapping.write_text(MAPPING)
    files = {
        written(tmp_path / "broken.jsonl", [*good[:12], b'{"user_id": "u1", ', *good[12:]]): (
            "broken.jsonl line 13 is no event",
            "Good lines before it: 12. Nothing was written",
        ),
        written(tmp_path / "table.csv", [b"at,who", b"1,2"]): ("needs --map", "its columns are 'at', 'who'"),
        written(
            tmp_path / "retail.csv",
            [b"Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country", b"1,2,3,4,5,6,7,8"],
        ): ("The mapping online-retail would fit: --map online-retail",),
        tmp_path / "absent.jsonl": ("There is no file",),
    }
    run = run_of(made, "none")
    for path, sentences in files.items():
        refused = await kairos(made, "backfill", str(path), "--into", run, "--execute")
        assert refused.returncode == 78
        assert [sentence for sentence in sentences if sentence not in refused.stderr] == [], refused.stderr
    ragged = written(tmp_path / "ragged.csv", [b"at,who,what,did", b"1,u,i,buy", b"1,u,i,buy,more,and,more"])
    refused = await kairos(made, "backfill", str(ragged), "--map", str(mapping), "--into", run)
    assert "line 3" in refused.stderr
    assert "Good lines before it: 1." in refused.stderr
    refused = await kairos(made, "backfill", str(tmp_path / "table.csv"), "--map", str(mapping), "--into", run)
    assert "has no column 'did', 'what'" in refused.stderr
    assert (await rows(beside(made, run)))["users"] == {}
    refused = await kairos(made, "backfill", str(tmp_path / "table.csv"), "--into", made.keys.namespace)
    assert (refused.returncode, "is the namespace in force" in refused.stderr) == (78, True)


async def test_files_must_join_the_log_before_they_come_into_force(made: Installation, tmp_path: Path) -> None:
    lines = [record.value or b"" for record in events(made.topics, 300)]
    run, plain = run_of(made, "past"), written(tmp_path / "past.jsonl", lines)
    await done(made, "backfill", str(plain), "--into", run, "--execute")

    apart = await kairos(made, "promote", run)
    assert apart.returncode == 78
    assert f"{run} does not reach the log yet" in apart.stderr
    assert f"`kairos replay --into {run} --from TIME --execute`" in apart.stderr

    await done(made, "replay", "--into", run, "--from", "0", "--execute")  # nothing has come in yet
    joined = await kairos(made, "promote", run)
    assert joined.returncode == 0, joined.stderr
