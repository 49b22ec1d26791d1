"""What is told of a log before it is imported: the figures do not depend on how it is cut, and each trouble is told."""

from __future__ import annotations

import dataclasses
from collections import Counter
from random import Random
from typing import Any

import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.partition import partition_of
from streams.features.declaration import DEFAULT
from streams.logs.columns import Lines
from streams.logs.mapping import parse
from streams.operations.log_judgement import judge
from streams.operations.log_report import Analysis, markdown
from streams.operations.log_survey import LogSurvey, Rules, Wire
from streams.service.findings import Finding

NOW_MS = 1_800_000_000_000
RULES = Rules(partitions=8, now_ms=NOW_MS, max_skew_ms=300_000, horizon_ms=400 * 86_400_000, max_value_bytes=1 << 18)
MAPPING = parse(
    """
name = "shop"
[time]
column = "at"
unit = "ms"
[event]
user_id = "who"
item_id = "what"
event_id = "id"
price = "cost"
[[kind]]
kind = "click"
column = "did"
matches = "^click$"
[[kind]]
kind = "purchase"
column = "did"
matches = "^buy$"
""",
    "shop",
)


def log(n: int, seed: int = 0) -> pd.DataFrame:
    """A log with a bit of everything that can be wrong, some lines twice."""
    random = Random(seed)
    rows = []
    for i in range(n):
        row = {
            "id": f"e{i}",
            "at": str(NOW_MS - 3_600_000 * 30 + i * 1_000 - random.choice([0, 0, 600_000])),
            "who": random.choice([f"u{random.randrange(40)}", "robot", None, "x" * 300]),
            "what": f"i{random.randrange(9)}",
            "did": random.choice(["click", "click", "buy", "scroll", None]),
            "cost": random.choice(["1.5", "free", None]),
        }
        rows += [row] * random.choice([1, 1, 1, 2])
    return pd.DataFrame(rows, dtype=object)


def surveyed(frame: pd.DataFrame, size: int) -> dict[str, Any]:
    survey = LogSurvey(RULES, DEFAULT, MAPPING)
    for at in range(0, len(frame), size):
        survey.add(Lines(frame[at : at + size]))
    return survey.facts()


@settings(deadline=None, max_examples=15)
@given(size=st.integers(1, 70), seed=st.integers(0, 5))
def test_figures_do_not_depend_on_how_the_log_is_cut(size: int, seed: int) -> None:
    frame = log(60, seed)
    whole, cut = surveyed(frame, 1_000), surveyed(frame, size)
    for name in ("lines", "time", "missing", "duplicates"):
        assert whole[name] == cut[name]
    assert whole["kinds"]["unknown"] == cut["kinds"]["unknown"]
    # A line that comes again in another piece is an event again; twins are told as duplicates either way.
    twins = cut["events"] - whole["events"]
    assert 0 <= twins <= whole["duplicates"]["n"]


def test_every_line_is_an_event_or_told_why_not() -> None:
    facts = surveyed(log(500), 10_000)
    assert facts["lines"] == facts["events"] + sum(facts["left_out"].values()) + sum(facts["rejects"].values())
    assert facts["rejects"]["id"] > 0
    assert {"duplicate", "no user", "no kind", "bad number"} <= set(facts["left_out"])
    assert facts["kinds"]["unknown"]["did = scroll"] > 0
    assert facts["duplicates"]["by"] == "event_id"
    assert facts["duplicates"]["n"] == facts["left_out"]["duplicate"]


def test_the_largest_partition_is_that_of_murmur2() -> None:
    facts = surveyed(log(500), 10_000)
    robots = next(top for top in facts["users"]["top"] if top["id"] == "robot")
    assert facts["users"]["top"][0] == robots
    assert facts["partitions"]["largest"] == partition_of(b"robot", 8)
    assert facts["partitions"]["records"] >= robots["n"]


def test_records_of_a_topic_are_judged_as_the_worker_judges_them() -> None:
    def record(user: str, *, key: str | None = None, ts_ms: int = NOW_MS - 1_000, **more: Any) -> Wire:
        value = {"user_id": user, "item_id": "i", "kind": "click", "ts_ms": ts_ms, **more}
        return Wire((key or user).encode(), orjson.dumps(value), NOW_MS)

    home = partition_of(b"u1", 4)
    survey = LogSurvey(dataclasses.replace(RULES, partitions=4), DEFAULT, None)
    elsewhere = next(f"v{n}" for n in range(99) if partition_of(b"v%d" % n, 4) != home)
    records = [
        record("u1", event_id="a"),
        record("u1", event_id="a", price=1.0),
        record("u1", key="other"),
        record(elsewhere),
        record("u1", kind="purchase"),
        record("u1", ts_ms=NOW_MS + 400_000),
        Wire(b"u1", b"{"),
        Wire(None, b"{}"),
    ]
    survey.add_records(records, frozenset({"click"}), (home, 4))
    facts = survey.facts()
    assert facts["rejects"] == {"null key": 1, "json": 1, "key mismatch": 1, "partition": 1, "kind": 1}
    assert facts["results"] == {"future": 1}
    assert facts["kinds"] == {"known": {"click": 2}, "unknown": {"purchase": 1}}
    assert facts["duplicates"] == {"by": "event_id", "n": 1, "exact": True}


def findings(**changed: Any) -> dict[str, Finding]:
    """Findings that are not green, of a good log in which something was changed, by their first words."""
    facts: dict[str, Any] = {
        "lines": 100_000,
        "events": 100_000,
        "users": {"distinct": 5_000, "top": [{"id": "u", "n": 100, "error": 0, "share": 0.001}]},
        "items": {"distinct": 50, "top": []},
        "kinds": {"known": {"click": 100_000}, "unknown": {}},
        "time": {
            "lines": 100_000, "without": 0, "oldest_ms": NOW_MS - 9 * 86_400_000, "newest_ms": NOW_MS, "future": 0,
            "expired": 0, "backwards": 0, "worst_step_back_ms": 0, "gaps": [],
        },
        "missing": {"price": 0.5},
        "duplicates": {"by": "event_id", "n": 0, "exact": True},
        "partitions": {"count": 8, "largest": 3, "records": 13_000, "share": 0.13},
        "left_out": {},
        "rejects": {},
        "results": {},
    }  # fmt: skip
    topic = changed.pop("topic", False)
    for name, value in changed.items():
        facts[name] = facts[name] | value if isinstance(value, dict) else value
    return {f.what: f for f in judge(facts, topic=topic) if f.state != "green"}


def test_a_good_log_is_green() -> None:
    assert findings() == {}
    assert findings(time={"expired": 90_000}) == {}  # a back-fill takes a file as of its own time


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"lines": 0, "events": 0}, "red", "There is no line."),
        ({"events": 0, "left_out": {"no kind": 100_000}}, "red", "None of 100,000 lines becomes an event: no kind"),
        ({"events": 40_000, "left_out": {"no user": 60_000}}, "red", "60.0% of 100,000 lines become no event"),
        ({"events": 90_000, "left_out": {"no user": 10_000}}, "yellow", "10.0% of 100,000 lines"),
        ({"rejects": {"id": 3}}, "yellow", "3 would be dead letters: id 3."),
        ({"rejects": {"id": 6_000}}, "red", "6,000 would be dead letters"),
        ({"time": {"without": 60_000}}, "red", "60,000 of 100,000 lines have no time"),
        ({"time": {"future": 5}}, "yellow", "5 lines are of the future"),
        ({"time": {"future": 5_000}}, "red", "5,000 lines are of the future"),
        ({"results": {"expired": 5}, "topic": True}, "yellow", "5 records are older than KAIROS_HORIZON_DAYS"),
        ({"results": {"future": 5}, "topic": True}, "yellow", "5 lines are of the future"),
        ({"time": {"backwards": 5_000}, "topic": True}, "yellow", "5,000 lines (5.0%) are earlier"),
        ({"time": {"gaps": [{"from_ms": NOW_MS, "length_ms": 86_400_000}]}}, "yellow", "No line for 1 d from 2027"),
        ({"duplicates": {"n": 5_000}}, "yellow", "5,000 lines (5.00%) come twice"),
        ({"duplicates": {"n": 5_000, "exact": False}}, "yellow", "About 5,000 lines"),
        ({"users": {"top": [{"id": "bot", "n": 9_000, "error": 0, "share": 0.09}]}}, "yellow", "User bot has 9,000"),
        ({"partitions": {"share": 0.3, "records": 30_000}}, "yellow", "The largest of 8 partitions (3) gets 30.0%"),
        ({"kinds": {"unknown": {"did = scroll": 7}}}, "yellow", "Kinds that nothing maps: did = scroll 7."),
    ],
)
def test_each_trouble_is_told_with_what_to_do(change: dict[str, Any], state: str, words: str) -> None:
    (found,) = findings(**change).values()
    assert found.state == state
    assert found.what.startswith(words)
    assert found.remedy.endswith(".")


def test_the_report_is_a_table_that_no_value_breaks() -> None:
    survey = LogSurvey(RULES, DEFAULT, MAPPING)
    frame = log(50)
    frame["who"] = "a|b"
    survey.add(Lines(frame))
    facts = survey.facts()
    told = markdown(Analysis("shop.csv", facts, judge(facts, topic=False), 'name = "shop"\n', ["A note."]))
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert all(line.endswith((" |", "-|", "|---:|")) for line in rows)
    assert "| a\\|b |" in told
    assert told.endswith('- A note.\n\n```toml\nname = "shop"\n```\n')


def test_counts_of_words_are_ranked() -> None:
    from streams.operations.log_judgement import words

    assert words(Counter(a=1, b=2_000, c=0)) == "b 2,000, a 1"
