"""The simulated shop is one seed's work, speaks the wire format, and holds the truths that were planted in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random
from typing import Any, NamedTuple

import orjson
import pytest

from deploy.shop.catalogue import CATEGORIES
from deploy.shop.taste import NAMES, open_probability
from deploy.shop.traffic import Live, history
from deploy.shop.visits import EVENTS_PER_VISIT, Shop
from schemas.events import decode_run
from schemas.topics import Topics
from streams.logs.logs import LogEvent

NOW_MS = 1_775_000_000_000
DAY_MS = 86_400_000
START_MS = NOW_MS - 28 * DAY_MS


class Record(NamedTuple):
    key: bytes
    value: bytes


def shop(seed: int = 7, users: int = 400) -> Shop:
    return Shop.build(users=users, items=240, seed=seed)


@pytest.fixture(scope="module")
def events() -> list[LogEvent]:
    return history(shop(), events=30_000, start_ms=START_MS, end_ms=NOW_MS, random=Random(1))


@pytest.fixture(scope="module")
def bodies(events: list[LogEvent]) -> list[dict[str, Any]]:
    return [orjson.loads(event.value) for event in events]


def test_a_seed_gives_the_same_history_byte_for_byte_and_another_seed_another(events: list[LogEvent]) -> None:
    def made(seed: int) -> list[LogEvent]:
        return history(shop(seed), events=30_000, start_ms=START_MS, end_ms=NOW_MS, random=Random(1))

    assert made(7) == events
    assert made(8) != events


def test_history_has_about_the_size_asked_for_lies_in_its_span_and_is_sorted(events: list[LogEvent]) -> None:
    assert len(events) == pytest.approx(30_000, rel=0.1), f"EVENTS_PER_VISIT is {EVENTS_PER_VISIT}"
    assert all(START_MS <= event.ts_ms < NOW_MS for event in events)
    assert [event.ts_ms for event in events] == sorted(event.ts_ms for event in events)


def test_every_event_is_accepted_on_its_topic(events: list[LogEvent]) -> None:
    topics = Topics()
    by_stream: defaultdict[str, list[Record]] = defaultdict(list)
    for event in events:
        by_stream[event.stream].append(Record(event.key, event.value))
    assert by_stream.keys() >= {"clicks", "browses", "orders"}
    for stream, records in by_stream.items():
        kinds = topics.kinds[getattr(topics, stream)]
        run = decode_run(records, kinds=kinds, now_ms=NOW_MS, max_skew_ms=0, horizon_ms=30 * DAY_MS)
        assert (run.rejects, sum(run.results.values()), len(run.events)) == ([], 0, len(records))
        assert run.scenes


def test_purchases_follow_carts_and_carts_follow_clicks(bodies: list[dict[str, Any]]) -> None:
    done: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    before = {"click": "browse", "add-to-cart": "click", "purchase": "add-to-cart", "return": "purchase"}
    kinds: Counter[str] = Counter()
    for body in bodies:
        so_far, kind = done[body["user_id"], body["item_id"]], body["kind"]
        assert kind == "browse" or so_far[before[kind]] > so_far[kind]
        so_far[kind] += 1
        kinds[kind] += 1
    assert kinds["browse"] > kinds["click"] > kinds["add-to-cart"] > kinds["purchase"] > kinds["return"] > 0


def test_the_catalogue_has_english_and_chinese_titles_in_every_category() -> None:
    goods = shop().items
    assert len({item.item_id for item in goods}) == 240
    for category in range(len(CATEGORIES)):
        assert {item.lang for item in goods if item.category == category} == {"en", "zh"}
    key, value = goods[0].wire(NOW_MS)
    body = orjson.loads(value)
    assert (body["item_id"].encode(), body["category"], body["ts_ms"]) == (key, NAMES[0], NOW_MS)
    assert body["price"] > 0


def lift(bodies: list[dict[str, Any]], category: str, field: str, value: str) -> float:
    """Share of a category among the looks in a scene over its share among all looks."""
    prefix = f"{NAMES.index(category):02d}"
    looks = [body for body in bodies if body["kind"] == "browse"]
    there = [body for body in looks if body["scene"][field] == value]
    share: float = sum(body["item_id"].startswith(prefix) for body in there) / len(there)
    overall: float = sum(body["item_id"].startswith(prefix) for body in looks) / len(looks)
    return share / overall


@pytest.mark.parametrize(
    ("category", "field", "value"),
    [
        ("rain gear", "weather", "rain"),
        ("outdoors", "weather", "clear"),
        ("electronics", "device", "desktop"),
        ("books", "device", "tablet"),
    ],
)
def test_planted_scenes_show_in_what_is_looked_at(
    bodies: list[dict[str, Any]], category: str, field: str, value: str
) -> None:
    assert lift(bodies, category, field, value) > 1.4


def test_people_sleep_in_their_own_zone(events: list[LogEvent]) -> None:
    world = shop()
    people = {person.user_id: person for person in world.people}
    hours: Counter[int] = Counter()
    for event in events:
        person = people[event.key.decode()]
        hours[world.moment(person, event.ts_ms, Random(0)).hour] += 1
    assert sum(hours[hour] for hour in range(19, 23)) > 4 * sum(hours[hour] for hour in range(1, 5))


def test_a_fitting_push_is_likelier_to_be_opened() -> None:
    world = shop()
    person = world.people[0]
    at_scene = world.moment(person, NOW_MS, Random(0))
    chances = [open_probability(person, at_scene, item) for item in world.items[: len(CATEGORIES)]]
    assert 0.01 <= min(chances) < max(chances) <= 0.3


def run_live(seed: int, seconds: int, *, pushes: int = 0) -> list[LogEvent]:
    world = shop()
    live = Live(world, events_per_s=200, now_ms=NOW_MS, random=Random(seed))
    seen: list[LogEvent] = []
    for tick in range(seconds * 10):
        now_ms = NOW_MS + tick * 100
        due = live.due(now_ms)
        assert all(event.ts_ms <= now_ms for event in due)
        if tick < pushes:
            live.push(world.people[tick].user_id, world.items[tick % 12].item_id, now_ms)
        seen += due
    return seen


def test_live_traffic_starts_at_once_runs_at_its_rate_and_never_ahead_of_the_clock() -> None:
    seen = run_live(3, 60)
    assert len(seen) / 60 == pytest.approx(200, rel=0.2)
    assert all(event.ts_ms >= NOW_MS for event in seen)
    assert sum(event.ts_ms < NOW_MS + 5_000 for event in seen) > 500
    assert seen == run_live(3, 60)


def test_pushes_come_back_as_feedback_and_some_of_them_as_visits() -> None:
    feedback = [event for event in run_live(3, 60, pushes=200) if event.stream == "feedback"]
    kinds = Counter(orjson.loads(event.value)["kind"] for event in feedback)
    assert kinds["sent"] == 200
    assert 180 <= kinds["delivered"] < 200
    assert 5 <= kinds["opened"] < 80
    assert kinds["dismissed"] > 0


def test_a_push_to_nobody_or_of_nothing_is_left_alone() -> None:
    live = Live(shop(), events_per_s=200, now_ms=NOW_MS, random=Random(1))
    live.push("nobody", "000000", NOW_MS)
    live.push("u000001", "nothing", NOW_MS)
    assert all(event.stream != "feedback" for event in live.due(NOW_MS + 10_000))
