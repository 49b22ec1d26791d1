"""One line an event, and the bytes it comes to."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from schemas.events import decode_run
from schemas.items import decode_items
from schemas.topics import KINDS, Topics
from streams.features.declaration import DEFAULT, DeclarationError
from streams.testing import Clock, Message, add_to_cart, browse, click, event, feedback, item, no_item, send_back
from streams.testing.events import Draft, Entry

CLOCK = Clock("2026-03-02T09:00:00+00:00")


def sent(draft: Draft | Entry) -> Message:
    return draft.message(DEFAULT, Topics(), CLOCK)


def test_an_event_is_its_bytes_under_its_own_key_in_the_topic_of_its_kind() -> None:
    made = sent(click("乙", "i1", at="-5min", price=9.5, page="item", device="phone", lat=48.8, lon=2.3))
    assert (made.topic, made.key) == (Topics().clicks, "乙".encode())
    assert orjson.loads(made.value or b"") == {
        "user_id": "乙",
        "item_id": "i1",
        "kind": "click",
        "ts_ms": CLOCK.now_ms - 300_000,
        "price": 9.5,
        "page": "item",
        "scene": {"device": "phone", "lat": 48.8, "lon": 2.3},
    }


def test_every_kind_is_read_where_it_is_sent() -> None:
    for topic, kinds in KINDS.items():
        for kind in kinds:
            made = sent(event(kind, "ann", "i1"))
            run = decode_run([made], kinds=kinds, now_ms=CLOCK.now_ms, max_skew_ms=0, horizon_ms=0)
            assert (made.topic, run.kinds, run.rejects) == (topic, [kind], [])


def test_a_kind_goes_by_its_name_or_its_word_on_the_wire() -> None:
    assert sent(event("cart", "ann", "i1")) == sent(add_to_cart("ann", "i1")) == sent(event("add-to-cart", "ann", "i1"))
    assert sent(feedback("opted_out", "ann")).topic == Topics().feedback
    assert [sent(made).topic for made in (browse("a", "i"), send_back("a", "i"))] == [Topics().browses, Topics().orders]


def test_a_scene_may_be_whole_empty_or_none() -> None:
    assert "scene" not in orjson.loads(sent(click("a", "i")).value or b"")
    assert orjson.loads(sent(click("a", "i", scene={})).value or b"")["scene"] == {}
    both = orjson.loads(sent(click("a", "i", scene={"os": "ios", "x": 1}, device="tv")).value or b"")
    assert both["scene"] == {"os": "ios", "x": 1, "device": "tv"}


def test_items_are_catalogue_entries_and_their_removal() -> None:
    made = [sent(item("i1", title="Red shoes", tags=["new"], at="+1h")), sent(no_item("i2"))]
    run = decode_items(made)
    entry = run.latest["i1"]
    assert entry is not None
    assert (entry.title, entry.tags, entry.ts_ms) == ("Red shoes", ["new"], CLOCK.start_ms + 3_600_000)
    assert run.latest["i2"] is None


def test_a_slip_is_named_with_what_there_is() -> None:
    with pytest.raises(TypeError, match=r"no field 'devise', only .*device"):
        click("ann", "i1", devise="phone")
    with pytest.raises(TypeError, match=r"no field 'colour', only .*brand"):
        item("i1", colour="red")
    with pytest.raises(ValueError, match=r"'wink' is no kind of this declaration.*features\.toml"):
        sent(event("wink", "ann"))


def test_times_are_counted_from_the_start_or_from_now_or_said() -> None:
    clock = Clock("2026-03-02T09:00:00+00:00")
    clock.advance("1h")
    minute = 60_000
    assert clock.at(None) == clock() == clock.start_ms + 60 * minute
    assert clock.at("+5min") == clock.start_ms + 5 * minute
    assert clock.at("-5min") == clock.start_ms + 55 * minute
    assert clock.at(17) == 17
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert clock.at("2026-03-02T13:00:00+01:00") == clock.at(noon) == clock.start_ms + 180 * minute
    clock.reach(clock.start_ms)
    assert clock() == clock.start_ms + 60 * minute


@pytest.mark.parametrize(("moment", "told"), [("soon", "is no time"), ("2026-03-02", "add an offset")])
def test_a_time_that_is_none_is_refused(moment: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CLOCK.at(moment)
    with pytest.raises(DeclarationError, match="length of time"):
        CLOCK.at("+5 weeks")
