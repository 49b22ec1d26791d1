"""Decoding a run: bad records are named and set aside, good neighbours survive, times follow one rule."""

from typing import Any, NamedTuple, get_args

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import Run, Scene, decode_run
from schemas.faults import MAX_VALUE_BYTES, Reason
from schemas.partition import partition_of

NOW_MS = 1_760_000_000_000
DAY_MS = 86_400_000
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work shares the machine
KINDS = frozenset({"click", "browse"})


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None


def wire(user: Any = "u1", item: Any = "i1", kind: Any = "click", ts_ms: Any = NOW_MS, **fields: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "kind": kind, "ts_ms": ts_ms, **fields}


def good(user: Any = "u1", **fields: Any) -> Record:
    return Record(str(user).encode(), orjson.dumps(wire(user, **fields)))


def bad(**fields: Any) -> Record:
    return Record(b"u1", orjson.dumps(wire(**fields)))


def raw(value: bytes | None, key: bytes | None = b"u1") -> Record:
    return Record(key, value)


def decode(*records: Record, **options: Any) -> Run:
    return decode_run(records, kinds=KINDS, now_ms=NOW_MS, max_skew_ms=300_000, horizon_ms=400 * DAY_MS, **options)


BAD: dict[str, tuple[Reason, Record]] = {
    "null key": ("null key", raw(good().value, None)),
    "null key and value": ("null key", raw(None, None)),
    "null value": ("null value", raw(None)),
    "empty value": ("null value", raw(b"")),
    "too large": ("too large", bad(query="x" * MAX_VALUE_BYTES)),
    "900 kB": ("too large", raw(b"x" * 900_000)),
    "not JSON": ("json", raw(b"hello")),
    "half an object": ("json", raw(b'{"user_id":"u1"')),
    "two objects": ("json", raw((good().value or b"") + b"," + (good().value or b""))),
    "NaN": ("number", raw(b'{"user_id":"u1","item_id":"i","kind":"click","ts_ms":1760000000000,"price":NaN}')),
    "infinity": ("number", raw(b'{"user_id":"u1","item_id":"i","kind":"click","ts_ms":Infinity}')),
    "a lone surrogate": ("json", raw(b'{"user_id":"\\ud800","item_id":"i","kind":"click","ts_ms":1760000000000}')),
    "100k brackets in a field": ("json", raw(b'{"user_id":"u1","x":' + b"[" * 100_000)),
    "100k brackets in the scene": ("json", raw(b'{"user_id":"u1","scene":' + b"[" * 100_000)),
    "only the Confluent prefix": ("json", raw(b"\0\0\0\0\1")),
    "not UTF-8": ("utf-8", raw(b'{"user_id":"u\xff","item_id":"i","kind":"click","ts_ms":1760000000000}')),
    "an array": ("shape", raw(b"[]")),
    "null": ("shape", raw(b"null")),
    "100k brackets": ("shape", raw(b"[" * 100_000)),
    "session is a number": ("shape", bad(session=5)),
    "missing item": ("missing", raw(b'{"user_id":"u1","kind":"click","ts_ms":1760000000000}')),
    "user is null": ("id", bad(user=None)),
    "user is true": ("id", bad(user=True)),
    "user is a fraction": ("id", bad(user=1.5)),
    "user is empty": ("id", bad(user="")),
    "user is too long": ("id", raw(orjson.dumps(wire("x" * 257)), b"x" * 257)),
    "user is too many bytes": ("id", good("é" * 129)),
    "user is a number of 300 digits": ("id", raw(orjson.dumps(wire()).replace(b'"u1"', b"7" * 300), b"7" * 300)),
    "user has a control character": ("id", good("a\nb")),
    "user has a NUL": ("id", good("a\0b")),
    "item has a control character": ("id", bad(item="a\x7f")),
    "kind of another topic": ("kind", bad(kind="purchase")),
    "kind is a number": ("kind", bad(kind=3)),
    "price is a text": ("number", bad(price="12")),
    "price is true": ("number", bad(price=True)),
    "price is negative": ("number", bad(price=-1)),
    "price is 1e400": ("number", raw((bad(price=7.5).value or b"").replace(b"7.5", b"1e400"))),
    "price is 1e300": ("number", bad(price=1e300)),
    "dwell is negative": ("number", bad(dwell_ms=-1)),
    "dwell is a word": ("number", bad(dwell_ms="long")),
    "dwell is 2**32": ("number", bad(dwell_ms=2**32)),
    "quantity is negative": ("number", bad(quantity=-2)),
    "time is a text": ("time", bad(ts_ms="2025-01-01")),
    "time is true": ("time", bad(ts_ms=True)),
    "time is 0": ("time", bad(ts_ms=0)),
    "time is negative": ("time", bad(ts_ms=-NOW_MS)),
    "time in nanoseconds": ("time", bad(ts_ms=NOW_MS * 1_000_000)),
    "time in the year 1999": ("time", bad(ts_ms=946_684_799_999)),
    "time in the year 2100": ("time", bad(ts_ms=4_102_444_800_000)),
    "time of 400 digits": ("time", raw((bad(ts_ms=12345).value or b"").replace(b"12345", b"1" * 400))),
    "time is 1e999": ("time", raw((bad(ts_ms=12345).value or b"").replace(b"12345", b"1e999"))),
    "scene is a list": ("scene", bad(scene=[])),
    "scene device is a number": ("scene", bad(scene={"device": 3})),
    "scene latitude beyond the pole": ("scene", bad(scene={"lat": 91})),
    "scene not UTF-8": ("scene", raw((bad(scene={"os": "Q"}).value or b"").replace(b"Q", b"\xff"))),
    "key of another user": ("key mismatch", raw(good("u2").value)),
    "key is a binary number": ("key mismatch", raw(good(7).value, (7).to_bytes(8, "big"))),
    "key is not UTF-8": ("key mismatch", raw(good("u2").value, b"\xff")),
    "key is empty": ("key mismatch", raw(good("u2").value, b"")),
    "key of 100 kB": ("key mismatch", raw(good("u2").value, b"k" * 100_000)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named_and_its_neighbours_survive(name: str) -> None:
    reason, record = BAD[name]
    run = decode(good("a"), record, good("b"))
    assert [(reject.index, reject.reason) for reject in run.rejects] == [(1, reason)]
    assert [event.user_id for event in run.events] == ["a", "b"]
    assert run.index == [0, 2]
    assert run.rejects[0].detail.endswith(".")
    assert len(run.rejects[0].detail) < 600


def test_all_bad_records_at_once_leave_the_good_ones() -> None:
    records = [record for _, spoiled in BAD.values() for record in (good("ok"), spoiled)]
    run = decode(*records)
    assert run.index == list(range(0, len(records), 2))
    assert [reject.index for reject in run.rejects] == list(range(1, len(records), 2))
    assert {reject.reason for reject in run.rejects} <= set(get_args(Reason))


def test_values_that_are_valid_only_when_joined_do_not_slip_through() -> None:
    whole = (good("u1").value or b"").decode()
    first, second = f'{whole},{{"x":"', '"' + whole[1:]
    run = decode(raw(first.encode()), raw(second.encode()), good("b"))
    assert [event.user_id for event in run.events] == ["b"]
    assert [reject.reason for reject in run.rejects] == ["json", "shape"]


def test_a_key_that_hides_a_separator_does_not_hide_a_mismatch() -> None:
    run = decode(raw(good("x\0y").value, b"x"), raw(good("z").value, b"y\0z"), good("b"))
    assert [event.user_id for event in run.events] == ["b"]


@PATIENT
@given(st.lists(st.tuples(st.none() | st.binary(max_size=60), st.none() | st.binary(max_size=60)), max_size=8))
def test_no_bytes_make_decoding_fail(pairs: list[tuple[bytes | None, bytes | None]]) -> None:
    run = decode(*(Record(*pair) for pair in pairs))
    assert len(run.events) + len(run.rejects) == len(pairs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts, max_size=3),
    max_leaves=6,
)
FIELDS = ("user_id", "item_id", "kind", "ts_ms", "price", "dwell_ms", "quantity", "scene", "session", "currency")


@PATIENT
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), min_size=1, max_size=6))
def test_any_json_in_any_field_is_an_event_a_reject_or_a_result(changes: list[dict[str, Any]]) -> None:
    import json

    records = [good("before")]
    for change in changes:
        text = json.dumps({**wire(), **change}, ensure_ascii=True)  # writes NaN and Infinity as Python does
        records.append(Record(str(change.get("user_id", "u1")).encode("utf-8", "replace"), text.encode()))
    records.append(good("after"))
    run = decode(*records)
    left_out = run.results["future"] + run.results["expired"]
    assert len(run.events) + len(run.rejects) + left_out == len(records)
    assert [run.events[0].user_id, run.events[-1].user_id] == ["before", "after"]
    for event in run.events:
        assert type(event.user_id) is str
        assert type(event.ts_ms) is int
        assert event.price is None or 0 <= event.price <= 1e12


@pytest.mark.parametrize("user", [-9223372036854775808, 9223372036854775807, 2**62, 0, -3, "007", "商品", "a b", " "])
def test_ids_survive_as_text(user: Any) -> None:
    run = decode(good(user, item=user))
    assert [(event.user_id, event.item_id) for event in run.events] == [(str(user), str(user))]


@pytest.mark.parametrize(
    ("written", "ts_ms", "counted"),
    [
        (NOW_MS, NOW_MS, {}),
        (float(NOW_MS), NOW_MS, {}),
        (NOW_MS // 1000, NOW_MS, {"seconds": 1}),
        (1_759_999_999.123, 1_759_999_999_123, {"seconds": 1}),
        (NOW_MS * 1000 + 999, NOW_MS, {"microseconds": 1}),
    ],
)
def test_a_time_in_any_of_three_units_is_recognised_and_counted(
    written: float, ts_ms: int, counted: dict[str, int]
) -> None:
    run = decode(good(ts_ms=written), good())
    assert [event.ts_ms for event in run.events] == [ts_ms, NOW_MS]
    assert run.results == counted


def test_future_and_expired_events_are_counted_and_neither_events_nor_rejects() -> None:
    skew, horizon = 300_000, 400 * DAY_MS
    times = [NOW_MS + skew, NOW_MS + skew + 1, NOW_MS - horizon, NOW_MS - horizon - 1, NOW_MS]
    run = decode(*(good(ts_ms=ts_ms) for ts_ms in times))
    assert run.index == [0, 2, 4]
    assert run.results == {"future": 1, "expired": 1}
    assert run.rejects == []


def test_a_key_in_the_wrong_partition_is_a_reject_that_names_the_remedy() -> None:
    users = [f"user-{number}" for number in range(40)]
    run = decode(*(good(user) for user in users), home=(1, 4))
    right = [user for user in users if partition_of(user.encode(), 4) == 1]
    assert [event.user_id for event in run.events] == right
    assert 0 < len(right) < len(users)
    assert {reject.reason for reject in run.rejects} == {"partition"}
    assert "murmur2" in run.rejects[0].detail


def test_a_user_known_from_earlier_runs_is_checked_again_when_anything_differs() -> None:
    home = (partition_of(b"u1", 4), 4)
    assert decode(good("u1"), home=home).rejects == []
    spoiled = [raw(good("u2").value), raw(good("u1").value, b"u2"), good("a\nb"), good("")]
    for _ in range(2):
        run = decode(good("u1"), *spoiled, good("u1"), home=home)
        assert run.users == [event.user_id for event in run.events] == ["u1", "u1"]
        assert [(reject.index, reject.reason) for reject in run.rejects] == [
            (1, "key mismatch"), (2, "key mismatch"), (3, "id"), (4, "id"),
        ]  # fmt: skip
    other = decode(good("u1"), home=((home[0] + 1) % 4, 4))
    assert [reject.reason for reject in other.rejects] == ["partition"], "another partition has not seen that key"


@PATIENT
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.booleans()), max_size=12))
def test_columns_are_parallel_to_events_whatever_is_left_out(pairs: list[tuple[str, str, bool]]) -> None:
    records = [
        raw(orjson.dumps(wire(user, f"i{at}", ts_ms=NOW_MS + at, scene={"os": "ios"} if told else 5)), key.encode())
        for at, (user, key, told) in enumerate(pairs)
    ]
    run = decode(*records, home=(1, 3))
    good_ones = [at for at, (user, key, told) in enumerate(pairs) if user == key and told]
    assert run.index == [at for at in good_ones if partition_of(pairs[at][0].encode(), 3) == 1]
    assert run.keys == [records[at].key for at in run.index]
    assert run.users == [event.user_id for event in run.events] == [pairs[at][0] for at in run.index]
    assert run.items == [event.item_id for event in run.events] == [f"i{at}" for at in run.index]
    assert run.kinds == [event.kind for event in run.events]
    assert run.ts_ms == [event.ts_ms for event in run.events] == [NOW_MS + at for at in run.index]
    assert [scene and scene.os for scene in run.scenes] == ["ios"] * len(run.index)


def test_equal_scenes_are_decoded_once_and_are_one_object() -> None:
    phone, desk = {"device": "phone", "lat": -33.4, "unknown": [1]}, {"device": "desktop"}
    run = decode(good(scene=phone), good(), good(scene=desk), good(scene=phone), good(scene=None))
    assert run.scenes[0] is run.scenes[3]
    assert [scene and scene.device for scene in run.scenes] == ["phone", None, "desktop", "phone", None]
    assert run.scenes[0] == Scene(device="phone", lat=-33.4)


def test_scene_positions_stay_parallel_when_a_bad_scene_is_set_aside() -> None:
    run = decode(good("a", scene={"os": 1}), good("b", scene={"os": "ios"}), good("c"))
    assert run.index == [1, 2]
    assert [scene and scene.os for scene in run.scenes] == ["ios", None]


def test_a_large_scene_is_read_but_not_remembered() -> None:
    run = decode(good(scene={"os": "ios", "junk": "x" * 5000}))
    assert [scene and scene.os for scene in run.scenes] == ["ios"]


def test_unknown_fields_and_the_confluent_prefix_are_no_trouble() -> None:
    value = orjson.dumps({**wire(), "extra": {"deep": [1, 2, {"x": None}]}})
    run = decode(raw(b"\0\0\0\0\7" + value), raw(b" " + value + b"\n"))
    assert [event.item_id for event in run.events] == ["i1", "i1"]


def test_every_field_arrives() -> None:
    fields = {
        "event_id": "e", "session": "s", "quantity": 2, "price": 19.99, "currency": "EUR", "dwell_ms": 5,
        "query": "red shoes", "page": "/p", "campaign": "c",
    }  # fmt: skip
    event = decode(good(**fields)).events[0]
    assert {name: getattr(event, name) for name in fields} == fields


def test_an_empty_run_is_an_empty_answer() -> None:
    assert decode() == Run()


def test_an_event_is_judged_by_when_kafka_took_it_so_that_a_replay_judges_alike() -> None:
    old, early = good("old", ts_ms=NOW_MS - 401 * DAY_MS), good("early", ts_ms=NOW_MS - DAY_MS + 400_000)
    now = decode(old, early)
    assert (now.results["expired"], [e.user_id for e in now.events]) == (1, ["early"])
    then = decode(old, early, heard_ms=[NOW_MS - 401 * DAY_MS, NOW_MS - DAY_MS])
    assert (then.results["future"], [e.user_id for e in then.events]) == (1, ["old"])
    ahead = decode(good("ahead", ts_ms=NOW_MS + 400_000), heard_ms=[NOW_MS + 400_000])
    assert ahead.results["future"] == 1, "a producer's clock is not believed beyond our own"


def test_a_stay_may_have_a_fraction_as_browsers_measure_it() -> None:
    assert decode(good("u", dwell_ms=1234.56)).events[0].dwell_ms == 1234.56
