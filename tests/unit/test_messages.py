"""The records of one user's ending: what a candidate carries, when it expires, what is taken back and remembered."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from model_server.facts import Person
from model_server.items import ItemArrays
from model_server.messages import Ended, Records, Scribe
from model_server.policy.decide import Admission, Ending
from model_server.policy.pushes import Log, Push, Retraction, decode
from model_server.policy.quiet import Night
from model_server.policy.settings import PolicySettings
from model_server.queue import Lease
from model_server.scoring import Scored
from schemas import decisions, recommendations
from schemas.decisions import Step
from schemas.items import Item, encode_item
from schemas.recommendations import Recommendation
from schemas.topics import Topics
from streams.features.columns import item_code
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout

T = 1_800_000_000_000
HOUR_MS = 3_600_000
SCRIBE = Scribe(Topics("t.").outlets, "main", "run", 7, PolicySettings(quiet_hours="22:00-08:00"))
PASSED = Step("score", "score", passed=True, value=0.5, threshold=0.1)


def arrays() -> ItemArrays:
    items = ItemArrays(ItemLayout(DEFAULT))
    items.put({name: (None, encode_item(Item(name, price=9.5, ts_ms=T))) for name in ("a", "b")})
    items.put({"bare": (None, None)})
    return items


def scored(*items: int, propensity: float = 1.0, reasons: int = 0b101) -> Scored:
    item = np.array([items], np.int32)
    some = np.full(item.shape, 0.5, np.float32)
    shown = np.full(item.shape, propensity, np.float32)
    why = np.full(item.shape, reasons, np.uint32)
    half, grade = some / np.float32(2), np.ones(item.shape, np.uint8)
    names = ("own", "24h", "scene")
    return Scored(item, some, some, some, some, half, some, grade, some, shown, why, names, 0, 0, 0)


def ended(log: Log = (), *, next_night_ms: int = 0, taken: tuple[Push, ...] = (), **more: Any) -> Ended:
    person = Person(
        row=b"row",
        log=log,
        admission=Admission([], None),
        retractions=[Retraction(push, "bought") for push in taken],
        zone="Europe/Paris",
        locale="fr-FR",
        night=Night(720, 0, next_night_ms),
        pushed_day=len(log),
    )
    facts: dict[str, Any] = {
        "ending": Ending("sent", [PASSED], picks=(0,)),
        "scored": scored(0, 1),
        "because": [{}, {}],
    }
    facts |= more
    return Ended(Lease(3, b"u", T * 4 + 1, 0), person, model="m", waited_ms={"queue": 4.0}, **facts)


def written(of: Ended) -> Records:
    return SCRIBE.records(of, arrays(), T)


def candidates(records: Records) -> list[Recommendation]:
    values = [out.message.value for out in records.candidates]
    return [recommendations.decode(value) for value in values if value is not None]


def push(item: str = "a", *, expires_ms: int = T + HOUR_MS, slot: int = 0) -> Push:
    first = candidates(written(ended()))[0]
    return Push(item, item_code(item), T - HOUR_MS, expires_ms, f"d-{item}", first.collapse_key, slot)


def test_a_candidate_tells_its_grade_and_its_chances() -> None:
    records = written(ended())
    sent = candidates(records)[0]
    assert sent.grade == "recommended"
    assert sent.scores is not None
    assert (sent.scores.p_rec, sent.scores.p_best) == (0.5, 0.25)
    assert sent.relevance == 0.375
    assert records.decision.message.value is not None
    chosen = decisions.decode(records.decision.message.value).chosen[0]
    assert (chosen.grade, chosen.scores) == (sent.grade, sent.scores)


def test_every_record_goes_to_the_partition_of_the_lease_under_the_users_key() -> None:
    records = written(ended())
    assert [(out.topic, out.partition, out.message.key) for out in (*records.candidates, records.decision)] == [
        ("t.recommendations.v1", 3, b"u"),
        ("t.decisions.v1", 3, b"u"),
    ]


def test_a_candidate_never_outlives_the_day_of_its_user() -> None:
    (evening,) = candidates(written(ended(next_night_ms=T + HOUR_MS)))
    (noon,) = candidates(written(ended(next_night_ms=T + 9 * HOUR_MS)))
    assert (evening.expires_ms, noon.expires_ms) == (T + HOUR_MS, T + 6 * HOUR_MS)


def test_guards_carry_what_was_seen_and_where() -> None:
    (candidate,) = candidates(written(ended()))
    guards = {guard.rule: (guard.value, guard.evidence) for guard in candidate.guards}
    assert guards["price_at_most"] == (9.5, f"catalogue@{T}")
    assert guards["in_stock"] == (True, f"catalogue@{T}")


def test_an_item_without_a_catalogue_entry_still_makes_a_candidate() -> None:
    (candidate,) = candidates(written(ended(scored=scored(2))))
    assert (candidate.item.id, candidate.item.price) == ("bare", None)
    assert "price_at_most" not in {guard.rule for guard in candidate.guards}


def test_reasons_are_the_names_of_the_bits() -> None:
    assert candidates(written(ended()))[0].reasons == ["own", "scene"]


def test_a_sent_candidate_and_its_decision_tell_what_the_score_is_owed_to() -> None:
    records = written(ended(because=[{"base": -4.123456789, "prices": 0.5}]))
    (candidate,) = candidates(records)
    assert candidate.because == {"base": -4.12346, "prices": 0.5}
    assert records.decision.message.value is not None
    (chosen,) = decisions.decode(records.decision.message.value).chosen
    assert chosen.because == candidate.because


def test_chance_is_told_only_where_it_took_part() -> None:
    (certain,) = candidates(written(ended()))
    (tried,) = candidates(written(ended(scored=scored(0, propensity=0.25))))
    assert certain.exploration is None
    assert tried.exploration is not None
    assert tried.exploration.propensity == 0.25


def test_every_slot_has_its_own_keys_and_its_line_in_the_push_log() -> None:
    records = written(ended(ending=Ending("sent", [PASSED], picks=(0, 1))))
    first, second = candidates(records)
    assert (first.slot, second.slot, first.item.id, second.item.id) == (0, 1, "a", "b")
    assert first.collapse_key != second.collapse_key
    assert first.dedup_key != second.dedup_key
    log = decode(records.push_log)
    assert [(p.item, p.code, p.slot, p.ts_ms) for p in log] == [
        ("a", item_code("a"), 0, T),
        ("b", item_code("b"), 1, T),
    ]


def test_a_candidate_whose_slot_is_unread_is_an_update() -> None:
    unread, gone, back = push(), push(expires_ms=T), replace(push(), retracted=True)
    assert [candidates(written(ended((log,))))[0].status for log in (unread, gone, back)] == ["updated", "new", "new"]


def test_a_retraction_names_the_candidate_and_marks_the_log() -> None:
    sent = push("b")
    records = written(ended((sent,), taken=(sent,), ending=Ending("held", [replace_passed()], T + 1), scored=None))
    (back,) = candidates(records)
    assert (back.status, back.dedup_key, back.collapse_key, back.item.id) == (
        "retracted",
        "d-b",
        sent.collapse_key,
        "b",
    )
    assert (back.expires_ms, back.reasons, records.retracted) == (sent.expires_ms, ["bought"], 1)
    assert [entry.retracted for entry in decode(records.push_log)] == [True]


def replace_passed() -> Step:
    return Step("timing", "minimum_gap", passed=False, value=1.0, threshold=2.0)


def test_a_refused_users_decision_shows_the_best_candidate_and_leaves_the_log_alone() -> None:
    records = written(ended(ending=Ending("refused", [replace_passed()], picks=(0,))))
    assert records.candidates == []
    decision = decisions.decode(records.decision.message.value or b"")
    assert [chosen.item for chosen in decision.chosen] == ["a"]
    assert (decision.outcome, decision.candidates, decision.retry_ms) == ("refused", 2, None)
    assert records.push_log == b""


def test_the_policy_version_follows_every_threshold() -> None:
    other = replace(SCRIBE, policy=replace(SCRIBE.policy, daily_cap=9))
    assert SCRIBE.policy_version != other.policy_version


def test_what_crosses_the_boundary_is_plain_json() -> None:
    records = written(ended())
    for out in (records.decision, *records.candidates):
        assert orjson.loads(out.message.value or b"")["run_id"] == "run"
