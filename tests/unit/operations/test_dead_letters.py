"""Dead letters without a broker: what a plan takes and leaves, sizes, markers, and what a page says."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from schemas.dead_letters import (
    DeadLetter,
    Origin,
    bury,
    decode,
    decode_marker,
    encode,
    encode_marker,
    is_copy_within,
    origin,
    redrive,
)
from schemas.partition import partition_of
from schemas.topics import Topics
from streams.breaker import Tripped, Window
from streams.operations import dead_letters
from streams.operations.breakers import opened
from streams.operations.dead_letters_read import Place, Survey, Wanted, entry_of
from streams.operations.dead_letters_redrive import Target, home, make_plan
from streams.operations.dead_letters_show import aligned, counts, letter_facts, letter_page, list_page, readable

NOW_MS, HOUR_MS = 1_760_000_000_000, 3_600_000
TOPICS = Topics("p.")
TARGETS = {name: Target(4, 1_048_588) for name in (*TOPICS.user_inputs, TOPICS.items)}
_places = itertools.count()


def letter(offset: int = 7, **changes: Any) -> DeadLetter:
    record: dict[str, Any] = {
        "topic": TOPICS.clicks, "partition": 1, "offset": offset, "key": b"u%d" % offset, "value": b"{",
        "headers": [], "reason": "json", "detail": "The value is not one JSON object.", "now_ms": NOW_MS,
    }  # fmt: skip
    return bury(**{**record, **changes})


def surveyed(*letters: DeadLetter, redriven: tuple[DeadLetter, ...] = (), ago_ms: int = 0) -> Survey:
    entries = [entry_of(Place(0, next(_places)), NOW_MS - ago_ms, one) for one in letters]
    return Survey(entries, {origin(one) for one in redriven})


def planned(found: Survey, **options: Any) -> tuple[list[int], dict[str, int]]:
    plan = make_plan(found, TOPICS, TARGETS, **{"most_attempts": 3, **options})
    return [entry.origin.offset for entry in plan.chosen], dict(plan.left_out)


def said(page: Any) -> str:
    console = Console(width=500, file=io.StringIO())
    console.print(page)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_letter_goes_back_unless_it_has() -> None:
    assert planned(surveyed(letter(1), letter(2), redriven=(letter(2),))) == ([1], {"re-driven already": 1})


def test_doubles_go_back_once_and_another_record_at_the_same_place_is_no_double() -> None:
    found = surveyed(letter(1), letter(1), letter(1, value=b"x"), letter(1, key=None, value=b"u1{"))
    assert found.states() == ["waiting", "double", "waiting", "waiting"]


def test_the_double_of_a_letter_that_went_back_stays() -> None:
    assert surveyed(letter(1), letter(1), redriven=(letter(1),)).states() == ["re-driven", "re-driven"]


def test_the_oldest_go_first_and_the_limit_is_told() -> None:
    young, old = surveyed(letter(1), letter(2)), surveyed(letter(3), letter(4), ago_ms=HOUR_MS)
    found = Survey(young.entries + old.entries)
    assert planned(found, limit=3) == ([3, 4, 1], {"over the limit of 3": 1})


def test_spent_attempts_count_what_failed_before() -> None:
    tried = letter(1, headers=[("kairos-attempt", b"2")])
    assert planned(surveyed(tried)) == ([], {"failed 3 times or more (--max-attempts)": 1})
    assert planned(surveyed(tried), most_attempts=4)[0] == [1]


def test_topics_of_others_and_item_deltas_stay() -> None:
    chosen, left_out = planned(surveyed(letter(1, topic="events.clicks.v1"), letter(2, topic="p.items.deltas.run.v1")))
    assert chosen == []
    assert set(left_out.values()) == {1}
    assert any(why.startswith("of events.clicks.v1, which is no input") for why in left_out)


@pytest.mark.parametrize("key", [b"u1", b"u2", b"u3", b"u4"])
def test_a_letter_belongs_where_its_key_does_and_without_one_where_it_was(key: bytes) -> None:
    assert home(letter(key=key), TARGETS) == partition_of(key, 4)
    assert home(letter(key=None), TARGETS) == 1
    assert home(letter(key=key, topic="gone"), TARGETS) == 1


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(reason="json", topic=TOPICS.clicks, key=b"u7"), True),
        (Wanted(reason="kind"), False),
        (Wanted(topic=TOPICS.orders), False),
        (Wanted(key=b"u8"), False),
        (Wanted(since_ms=NOW_MS), True),
        (Wanted(since_ms=NOW_MS + 1), False),
        (Wanted(until_ms=NOW_MS), True),
        (Wanted(until_ms=NOW_MS - 1), False),
        (Wanted(places=frozenset({Place(0, 5)})), True),
        (Wanted(places=frozenset({Place(1, 5)})), False),
    ],
)
def test_a_filter_takes_what_fits_all_of_it(wanted: Wanted, takes: bool) -> None:
    assert wanted.takes(entry_of(Place(0, 5), NOW_MS, letter())) is takes


_bytes = st.none() | st.binary(max_size=3000)


@given(_bytes, _bytes, st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=300)), max_size=5))
def test_the_size_of_a_letter_put_back_is_never_told_too_small(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    one = letter(key=key, value=value, headers=headers)
    builder = DefaultRecordBatchBuilder(2, 0, 1, 0, 0, 0, 1 << 20)
    message = redrive(one)
    builder.append(0, NOW_MS, message.key, message.value, message.headers)
    size = len(builder.build())
    assert size <= entry_of(Place(0, 0), NOW_MS, one).size_bytes <= size + 40 + 8 * len(message.headers)


@given(
    st.lists(
        st.builds(Origin, st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 1 << 62), st.text(max_size=3))
    )
)
def test_a_marker_says_what_was_put_back_and_is_no_letter(origins: list[Origin]) -> None:
    marker = encode_marker(origins)
    found = decode_marker(marker.value, marker.headers)
    assert found is not None
    assert sorted(found) == sorted(origins)
    with pytest.raises(ValueError, match="no dead letter"):
        decode(*marker)


def test_a_letter_and_a_spoilt_marker_are_no_markers() -> None:
    assert decode_marker(*encode(letter())[1:]) is None
    for value in (None, b"{", b"[1]", b'{"a": 1}', b'{"a": [1]}'):
        assert decode_marker(value, [("kairos-redriven", b"true")]) is None


def test_a_copy_knows_whether_its_original_lies_in_the_same_partition() -> None:
    copy = redrive(letter(partition=1))
    assert is_copy_within(1, 0, copy.headers)
    assert is_copy_within(1, 7, copy.headers)
    assert not is_copy_within(1, 8, copy.headers), "the original is not read, so the copy stands for it"
    assert not is_copy_within(2, 0, copy.headers)
    assert not is_copy_within(1, 0, [])
    assert not is_copy_within(1, 0, [("kairos-copy-of", b"1:x")])
    again = redrive(letter(partition=2, headers=copy.headers))
    assert [text for name, text in again.headers if name == "kairos-copy-of"] == [b"2:7"]


@pytest.mark.parametrize("text", ["", "5", "a:1", "1:", ":1", "1:2:3", "-1:2"])
def test_what_is_no_reference_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="partition:offset, such as 2:1507"):
        Place.of(text)


def test_a_reference_is_read_as_it_is_written() -> None:
    assert Place.of(str(Place(2, 1507))) == Place(2, 1507)


def test_a_list_counts_and_shows_no_personal_data() -> None:
    found = surveyed(letter(1), letter(2), letter(3, reason="kind"), ago_ms=2 * HOUR_MS)
    assert counts(found, NOW_MS)["age"] == {"under 1 d": 3}
    page = said(list_page(found, NOW_MS, 2))
    assert "reason   2 json, 1 kind" in page
    assert "p.events.clicks.v1:1 offset" in page
    assert "and 1 older ones (--limit)" in page
    assert "u1" not in page.replace("u1.", "")


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned([("a", "bb"), ("cccc", "d")]) == ["a     bb", "cccc  d"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (b'{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'),
        ("{ é\x07[b]".encode(), "{ é\\x07[b]"),
        (b"\xff\0", "2 bytes: ff 00"),
    ],
)
def test_a_value_is_readable_whatever_it_is(value: bytes | None, text: str) -> None:
    assert readable(value) == text


def test_a_long_value_that_is_no_text_is_cut() -> None:
    assert readable(b"\xff" * 2000).endswith("ff … 976 more bytes")


def test_one_letter_is_shown_with_all_of_it() -> None:
    one = letter(key=b"u[b]7", value=b"\xff", headers=[("trace", b"\xfe"), ("[x]", b"y"), ("[x]", b"z")])
    facts = letter_facts(Place(2, 9), NOW_MS, one, "waiting", "still there", 3)
    page = said(letter_page(facts, one.value))
    for text in (
        "Dead letter 2:9",
        "u[b]7",
        "its key belongs to partition 3 (still there)",
        "header [x]",
        "1 bytes: ff",
    ):
        assert text in page
    assert page.count("header [x]") == 2
    assert (facts["value"], facts["value_hex"], facts["headers"][0]) == (None, "ff", ["trace", "fe"])


def test_a_breaker_is_open_until_its_records_are_applied() -> None:
    note = Window(9, 1, Tripped(10, 19, "json", "offset 10: …")).to_note()
    (found,) = opened(3, {"t": (9, note)})
    assert str(found).startswith("The breaker of t:3 is open: its worker stopped at offsets 10 to 19")
    assert opened(3, {"t": (19, note), "u": (0, Window(9, 1).to_note()), "v": (0, b"?")}) == []


@pytest.mark.parametrize(
    "words", [[], ["burn"], ["show"], ["show", "x"], ["list", "--execute"], ["redrive", "--max-attempts", "0"]]
)
def test_what_is_typed_wrongly_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        dead_letters.verb(words)
    assert ended.value.code == 2
    assert "kairos dead-letters" in capsys.readouterr().err
