"""The verdict of a fault run finds what is wrong: a checker that never complains proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import pytest

from schemas import dead_letters, decisions, recommendations
from schemas.decisions import Chosen, Decision
from schemas.encoding import Header
from schemas.recommendations import Offer, Recipient, Recommendation, Versions
from streams.features.declaration import DEFAULT
from streams.features.rows import Layout
from tests.faults.answers import judge_answers
from tests.faults.fault import EXIT_AGAIN, EXIT_REFUSED, Ending, Fault
from tests.faults.registry import FAULTS
from tests.faults.supervised import Exit, last_words
from tests.faults.tables import Tables
from tests.faults.traffic import BAD, GOOD, TRUTH, Outgoing
from tests.faults.truth import Truth
from tests.faults.verdict import Verdict, judge_exits, judge_letters, judge_log, judge_rows, must_have_forgotten

T_MS = 1_764_000_000_000
CLICKS = ("clicks", 0)


class Record(NamedTuple):
    """What the checker reads of a record of Kafka."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    offset: int = 0


def click(offset: int, user: str = "u", truth: bytes = GOOD) -> Record:
    event = {"user_id": user, "item_id": "i", "kind": "click", "ts_ms": T_MS + offset}
    return Record(user.encode(), orjson.dumps(event), [(TRUTH, truth)], offset)


def test_a_row_that_is_missing_is_lost_events_and_a_wrong_row() -> None:
    verdict = Verdict()
    judge_rows(verdict, {CLICKS: [click(0), click(1)]}, Tables({}, {}, {}), "items")
    assert (verdict.lost, verdict.doubled, verdict.wrong_rows) == (2, 0, 2)
    assert len(verdict.complaints) == 2


def test_a_row_of_nobody_is_doubled_events() -> None:
    layout = Layout(DEFAULT)
    row = layout.unpack([None])
    row[0]["totals"][0], row[0]["schema"] = 3, layout.schema
    blobs = layout.pack(row)
    verdict = Verdict()
    judge_rows(verdict, {CLICKS: []}, Tables({"ghost": blobs[0]}, {}, {}), "items")
    assert (verdict.lost, verdict.doubled, verdict.wrong_rows) == (0, 3, 1)


def test_an_old_word_on_an_item_is_a_wrong_row() -> None:
    said = [Record(b"i", b'{"item_id":"i","price":%d}' % price, [(TRUTH, GOOD)], price) for price in (1, 2)]
    for kept, wrong in ((b'{"price":2,"item_id":"i"}', 0), (b'{"item_id":"i","price":1}', 1)):
        verdict = Verdict()
        judge_rows(verdict, {("items", 0): said}, Tables({}, {}, {"i": kept}), "items")
        assert verdict.wrong_rows == wrong


def test_poison_must_be_buried_and_nothing_else() -> None:
    def letter(record: Record) -> Record:
        buried = dead_letters.bury(
            topic="clicks", partition=0, offset=record.offset, key=record.key, value=record.value,
            headers=record.headers, reason="json", detail="bad", now_ms=T_MS,
        )  # fmt: skip
        message = dead_letters.encode(buried)
        return Record(message.key, message.value, message.headers)

    good, bad = click(0), click(1, truth=BAD)
    for letters, complaints in (([bad], 0), ([bad, bad], 0), ([], 1), ([bad, good], 1), ([good], 2)):
        verdict = Verdict()
        judge_letters(verdict, {CLICKS: [good, bad]}, [letter(record) for record in letters])
        assert len(verdict.complaints) == complaints


def test_what_kafka_acknowledged_must_be_in_the_log() -> None:
    truth, record = Truth(), click(4)
    truth.acknowledge(CLICKS, 4, Outgoing("clicks", record.key, record.value, GOOD), 1.0)
    for log, complaints in (({CLICKS: [record]}, 0), ({CLICKS: []}, 1), ({CLICKS: [click(4, "other")]}, 1)):
        verdict = Verdict()
        judge_log(verdict, truth, log, {})
        assert (len(verdict.complaints), verdict.taken_back) == (complaints, 0)


def test_a_commit_that_kafka_took_back_is_told_apart_from_a_record_that_is_gone() -> None:
    truth, record = Truth(), click(4)
    truth.acknowledge(CLICKS, 4, Outgoing("clicks", record.key, record.value, GOOD), 1.0)
    for aborted, complaints in (({CLICKS: [record]}, 0), ({CLICKS: []}, 1), ({CLICKS: [click(4, "other")]}, 1)):
        verdict = Verdict()
        judge_log(verdict, truth, {CLICKS: []}, aborted)
        assert (len(verdict.complaints), verdict.taken_back) == (complaints, 1 - complaints)


def test_a_record_waits_from_its_acknowledgement_until_the_fence_is_there() -> None:
    truth = Truth()
    for offset, at_s in ((3, 10.0), (7, 11.0), (5, 10.5)):
        truth.acknowledge(CLICKS, offset, Outgoing("clicks", b"u", b"", GOOD), at_s)
    waits = [truth.waiting_since_s(CLICKS, fence) for fence in (-1, 2, 3, 5, 6, 7)]
    assert waits == [10.0, 10.0, 10.5, 11.0, 11.0, None]


def candidate(item: str, key: str, at_ms: int, decision: str = "d") -> Record:
    made = Recommendation(
        dedup_key=key, status="new", mode="live", run_id="r", decision_id=decision, decided_ms=at_ms,
        user=Recipient("u"), item=Offer(item), collapse_key="c", relevance=0.5, expires_ms=at_ms + 1,
        versions=Versions("m", "f", "p"),
    )  # fmt: skip
    message = recommendations.encode(made, "/kairos/main")
    return Record(message.key, message.value, message.headers)


def decision(name: str, *keys: str) -> Record:
    made = Decision(
        decision_id=name, user="u", ts_ms=T_MS, outcome="sent", steps=[],
        chosen=[Chosen("i", dedup_key=k) for k in keys],
        versions=Versions("m", "f", "p"), mode="live", run_id="r",
    )  # fmt: skip
    message = decisions.encode(made, "/kairos/main")
    return Record(message.key, message.value, message.headers)


def judged(sent: Sequence[Any], decided: Sequence[Any]) -> Verdict:
    verdict = Verdict()
    judge_answers(verdict, [{"user_id": "u", "kind": "click"}], sent, decided)
    return verdict


def test_a_candidate_needs_the_decision_that_chose_it() -> None:
    assert judged([candidate("i", "k", 1)], [decision("d", "k")]).complaints == []
    assert judged([candidate("i", "k", 1)], [decision("d", "other")]).orphans == 1
    assert judged([candidate("i", "k", 1)], [decision("e", "k")]).orphans == 1


def test_an_affected_user_needs_a_decision() -> None:
    assert judged([], []).unanswered == 1


def test_an_item_may_come_twice_under_one_key_only() -> None:
    all_keys = decision("d", "k", "l", *map(str, range(40)))
    assert judged([candidate("i", "k", 1), candidate("i", "k", 2)], [all_keys]).complaints == []
    assert judged([candidate("i", "k", 1), candidate("i", "l", 2)], [all_keys]).twins == 1
    between = [candidate(f"j{n}", str(n), 2 + n) for n in range(40)]
    assert judged([candidate("i", "k", 1), *between, candidate("i", "l", 99)], [all_keys]).twins == 0


HEALS = FAULTS["redis-killed"]
REFUSED = next(fault for fault in FAULTS.values() if fault.ending is Ending.REFUSED)
STOPS = next(fault for fault in FAULTS.values() if fault.ending is Ending.STOPS)
SAID = "10:00:00 critical streams.worker: Redis is away. Start it."


@pytest.mark.parametrize(
    ("fault", "code", "said", "ours", "complaints"),
    [
        (HEALS, EXIT_AGAIN, SAID, False, 0),
        (HEALS, EXIT_AGAIN, "", False, 1),
        (HEALS, EXIT_REFUSED, SAID, False, 1),
        (HEALS, 1, SAID, False, 1),
        (HEALS, -9, "", True, 0),
        (HEALS, 0, "", False, 0),
        (REFUSED, EXIT_REFUSED, SAID, False, 0),
        (REFUSED, -9, "", True, 1),
        (STOPS, -9, "", True, 0),
        (STOPS, EXIT_REFUSED, SAID, False, 1),
    ],
)
def test_processes_end_as_the_fault_says(fault: Fault, code: int, said: str, ours: bool, complaints: int) -> None:
    verdict = Verdict()
    judge_exits(verdict, [(fault, (0.0, 1.0))], [Exit("worker0", 1.0, code, said, ours)])
    assert len(verdict.complaints) == complaints


@pytest.mark.parametrize(("at_s", "complaints"), [(9.0, 1), (10.0, 0), (20.0, 0), (60.0, 0), (200.0, 1)])
def test_a_fault_explains_the_exits_of_its_time(at_s: float, complaints: int) -> None:
    verdict = Verdict()
    judge_exits(verdict, [(HEALS, (10.0, 20.0))], [Exit("worker0", at_s, EXIT_AGAIN, SAID, False)])
    assert len(verdict.complaints) == complaints
    assert verdict.exits == [("worker0", EXIT_AGAIN)]


def test_the_last_words_are_those_of_most_weight() -> None:
    log = f"09:59:59 error   streams.app: almost\n{SAID}\n10:00:01 info    streams.app: bye\n"
    assert last_words(log) == SAID
    assert last_words("10:00:01 info    streams.app: bye") == "10:00:01 info    streams.app: bye"
    assert last_words("") == ""


def test_redis_must_have_lost_a_write_unless_kafka_was_away_meanwhile() -> None:
    lost, away = FAULTS["redis-failover-to-a-lagging-replica"], FAULTS["broker-killed"]
    assert must_have_forgotten([(lost, (10.0, 20.0))])
    assert not must_have_forgotten([(away, (10.0, 20.0))])
    for span, expected in (((5.0, 12.0), False), ((0.0, 2.0), False), ((21.0, 22.0), True), ((-30.0, -20.0), True)):
        assert must_have_forgotten([(lost, (10.0, 20.0)), (away, span)]) is expected
