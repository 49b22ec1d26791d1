"""Holds a harness's rows against the oracle, which knows only the bytes that were published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streams.features.declaration import DEFAULT
from streams.testing import oracle
from streams.testing.harness import Harness
from streams.testing.terms import TERMS, terms_of

REGISTRY_BYTES = 5
"""What a schema registry's serialiser puts before the JSON: a zero byte and the id of a schema."""

Wrong = dict[str, dict[str, tuple[Any, Any]]]
"""By row and field what the oracle says and what is stored; None for a row that is missing or one too many."""


def wrong_rows(harness: Harness) -> Wrong:
    """Rows that are not what the oracle says, by "user NAME" and "item NAME"; empty when all is well.

    A record that is no event and not in the dead letters either is wrong too. The oracle goes by its own words for the
    default declaration, and by a shop's own words where it has a declaration.
    """
    terms = TERMS if harness.declaration == DEFAULT else terms_of(harness.declaration)
    events, lost = _counted(harness)
    users, items = harness.tables.blobs()
    user_rows, item_rows = harness.tables.unpacked(users, items)
    return {
        **_wrong("user", oracle.user_rows(events, harness.zone, terms), dict(zip(users, user_rows, strict=True))),
        **_wrong("item", oracle.item_rows(events, harness.zone, terms), dict(zip(items, item_rows, strict=True))),
        **{f"record {place}": {"dead letter": ("one", None)} for place in lost},
    }


def _counted(harness: Harness) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Events that must be in the rows, times in ms: published, no dead letters, and in time by Kafka's own clock.

    And the places of what is neither an event nor a dead letter.
    """
    buried = {(letter.topic, letter.partition, letter.record.offset) for letter in harness.letters}
    limits, events, lost = harness.world.limits, list[Mapping[str, Any]](), list[str]()
    for topic, partition, record in harness.log.of(*harness.topics.user_inputs):
        if (topic, partition, record.offset) in buried:
            continue
        try:
            value = record.value or b""
            event = orjson.loads(value[REGISTRY_BYTES:] if value[:1] == b"\0" else value)
            ts_ms = _in_ms(event["ts_ms"])
            known = {name: str(event[name]) for name in ("user_id", "item_id", "kind")}
        except (ValueError, TypeError, KeyError):
            lost.append(f"{topic} {partition} {record.offset}")
            continue
        if record.timestamp - limits.horizon_ms <= ts_ms <= record.timestamp + limits.max_skew_ms:
            events.append({**event, **known, "ts_ms": ts_ms})
    return events, lost


def _in_ms(time: float) -> int:
    if time < 10**11:
        return round(time * 1000)
    return int(time) if time < 10**14 else int(time // 1000)


def _wrong(word: str, expected: Mapping[str, dict[str, Any]], stored: Mapping[str, Any]) -> Wrong:
    found: Wrong = {f"{word} {name}": {"row": (None, "stored")} for name in stored.keys() - expected.keys()}
    for name, row in expected.items():
        differs = oracle.difference(row, stored[name]) if name in stored else {"row": (row, None)}
        if differs:
            found[f"{word} {name}"] = differs
    return found
