"""Candidates, decisions and dead letters: complete, readable again, with the headers others expect."""

from typing import Any

import numpy as np
import orjson
import pytest
from msgspec.structs import fields, replace

from schemas import dead_letters, decisions, recommendations
from schemas.dead_letters import bury
from schemas.decisions import Chosen, Decision, Step
from schemas.encoding import rfc3339, to_json
from schemas.recommendations import (
    Caps,
    Exploration,
    Guard,
    Offer,
    QuietHours,
    Recipient,
    Recommendation,
    Scores,
    Versions,
)

NOW_MS = 1_760_000_000_123

CANDIDATE = Recommendation(
    dedup_key="5f2c", status="new", mode="live", run_id="r1", decision_id="d1", decided_ms=NOW_MS,
    user=Recipient("u-商", "Asia/Shanghai", "zh-CN"),
    item=Offer("i1", "红鞋", "http://x/i.png", 19.99, "CNY", "app://i1", "spring"),
    collapse_key="kairos-0-abc", template="t1", variant="b", priority="high", relevance=0.7, grade="best_match",
    not_before_ms=NOW_MS, expires_ms=NOW_MS + 3_600_000,
    quiet_hours=QuietHours("22:00", "08:00", "Asia/Shanghai"),
    caps=Caps(sent=1, limit=5, window_ms=86_400_000, min_gap_ms=14_400_000, last_sent_ms=NOW_MS - 1),
    guards=[Guard("in_stock", value=True, evidence="c7"), Guard("price_at_most", 19.99), Guard("not_bought")],
    scores=Scores(0.4, 0.5, 0.1, 0.01, 0.3, 0.1, 0.6), versions=Versions("m1", "f1", "p1"),
    exploration=Exploration("epsilon", 0.05, "a"), reasons=["Bought the matching bag"],
    waited_ms={"queue_ms": 12.5},
)  # fmt: skip

DECISION = Decision(
    decision_id="d1", user="u1", ts_ms=NOW_MS, outcome="sent",
    steps=[
        Step("contact", "daily_cap", passed=True, value=1.0, threshold=5.0),
        Step("score", "final", passed=True, value=0.4, threshold=0.1),
    ],
    chosen=[Chosen("i1", 0, "5f2c", Scores(0.4), "recommended")], candidates=120,
    versions=Versions("m1", "f1", "p1"), waited_ms={"queue_ms": 12.5}, mode="live", run_id="r1",
)  # fmt: skip


def letter(**changes: Any) -> dead_letters.DeadLetter:
    record: dict[str, Any] = {
        "topic": "events.clicks.v1", "partition": 2, "offset": 77, "key": b"u1", "value": b"\xff\0",
        "headers": [("trace", b"t")], "reason": "json", "detail": "The value is not one JSON object.", "now_ms": NOW_MS,
    }  # fmt: skip
    return bury(**{**record, **changes})


def test_a_candidate_comes_back_whole() -> None:
    assert recommendations.decode(recommendations.encode(CANDIDATE, "/kairos/main").value or b"") == CANDIDATE


def test_a_candidate_has_cloud_events_headers_and_the_user_as_key() -> None:
    key, _, headers = recommendations.encode(CANDIDATE, "/kairos/main")
    assert key == "u-商".encode()
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"5f2c:new",
        "ce_source": b"/kairos/main",
        "ce_type": b"kairos.recommendation.v1",
        "ce_subject": "u-商".encode(),
        "ce_time": b"2025-10-09T08:53:20.123Z",
        "ce_partitionkey": "u-商".encode(),
        "ce_expirytime": b"2025-10-09T09:53:20.123Z",
        "ce_correlationid": b"d1",
        "content-type": b"application/json",
        "kairos-mode": b"live",
    }


def test_a_retraction_has_an_id_of_its_own() -> None:
    taken_back = recommendations.encode(replace(CANDIDATE, status="retracted"), "/kairos/main")
    assert dict(taken_back.headers)["ce_id"] == b"5f2c:retracted"


def test_a_decision_comes_back_whole_and_points_to_its_candidate() -> None:
    message = decisions.encode(DECISION, "/kairos/main")
    assert decisions.decode(message.value or b"") == DECISION
    assert message.key == b"u1"
    assert dict(message.headers)["ce_correlationid"] == b"d1" == CANDIDATE.decision_id.encode()
    assert DECISION.chosen[0].dedup_key == CANDIDATE.dedup_key


def test_numbers_of_numpy_are_numbers_and_what_never_was_is_null() -> None:
    value: Any = np.float32(0.5)
    step = Step("contact", "minimum_gap", passed=True, value=float("inf"), threshold=value)
    assert orjson.loads(to_json(step)) == {
        "stage": "contact", "rule": "minimum_gap", "passed": True, "value": None, "threshold": 0.5,
    }  # fmt: skip


def test_fields_without_a_value_are_left_out() -> None:
    assert orjson.loads(to_json(Offer("i1"))) == {"id": "i1"}


def test_every_field_of_a_candidate_is_used_in_these_tests() -> None:
    unused = {"slot", "interruption"}
    assert {f.name for f in fields(Recommendation) if getattr(CANDIDATE, f.name) == f.default} == unused


def test_times_are_written_in_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("value", [b"\xff\0", b"", None])
@pytest.mark.parametrize("key", [b"u1", None])
def test_a_dead_letter_comes_back_whole(key: bytes | None, value: bytes | None) -> None:
    buried = letter(key=key, value=value, exception="ValueError", stacktrace="at line 1")
    assert dead_letters.decode(*dead_letters.encode(buried)) == buried


def test_a_dead_letter_never_has_neither_key_nor_value() -> None:
    assert dead_letters.encode(letter(key=None, value=None)).value == b""


def test_a_dead_letter_carries_the_original_bytes_and_the_headers_of_kip_1034() -> None:
    _, value, headers = dead_letters.encode(letter())
    assert value == b"\xff\0"
    named = dict(headers)
    assert named["trace"] == b"t"
    assert named["__streams.errors.topic"] == b"events.clicks.v1"
    assert named["__streams.errors.partition"] == b"2"
    assert named["__streams.errors.offset"] == b"77"
    assert named["__streams.errors.message"] == b"The value is not one JSON object."
    assert {"__streams.errors.exception", "__streams.errors.stacktrace"} <= set(named)
    assert named["kairos-reason"] == b"json"


def test_a_second_failure_counts_and_keeps_the_first_time() -> None:
    again = dead_letters.redrive(letter())
    twice = letter(headers=again.headers, now_ms=NOW_MS + 5000)
    assert (twice.attempt, twice.first_failed_ms) == (2, NOW_MS)
    assert twice.headers == [("trace", b"t")]


def test_spoiled_counts_of_a_stranger_are_no_trouble() -> None:
    strange = letter(headers=[("kairos-attempt", b"9" * 5000), ("kairos-first-failed-ms", b"\xff")])
    assert (strange.attempt, strange.first_failed_ms) == (1, NOW_MS)


def test_a_long_stack_trace_is_cut() -> None:
    headers = dict(dead_letters.encode(letter(detail="x" * 9999, stacktrace="y" * 99_999)).headers)
    assert sum(len(text or b"") for text in headers.values()) < 10_000


def test_a_record_that_is_no_dead_letter_is_refused() -> None:
    with pytest.raises(ValueError, match="no dead letter"):
        dead_letters.decode(b"u1", b"x", [("trace", b"t")])
