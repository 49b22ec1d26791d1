"""Records that must not count, by what is wrong with them."""

from __future__ import annotations

import orjson

from schemas.topics import Topics
from streams.testing.events import Message

DEFAULT_TOPICS = Topics()
LARGE = frozenset({"deep", "900 kB"})
"""Those that weigh more than a hundred others."""


def poison(topics: Topics = DEFAULT_TOPICS) -> dict[str, Message]:
    """One of each; all but the two without a proper key carry the key of their user, p1."""
    good = {"user_id": "p1", "item_id": "i1", "kind": "click", "ts_ms": 1_764_000_000_000}

    def click(key: bytes | None = b"p1", value: bytes | None = None, **changes: object) -> Message:
        return Message(topics.clicks, key, orjson.dumps({**good, **changes}) if value is None else value)

    return {
        "bad JSON": click(value=b'{"user_id": "p1", '),
        "no object": click(value=b"[1,2]"),
        "joined": click(value=b'{"user_id":"p1"},{"x":1}'),
        "empty": click(value=b""),
        "null value": Message(topics.clicks, b"p1", None),
        "null key": click(key=None),
        "other key": click(key=b"p2"),
        "unknown kind": click(kind="wink"),
        "kind of another topic": click(kind="purchase"),
        "missing item": click(value=orjson.dumps({"user_id": "p1", "kind": "click", "ts_ms": good["ts_ms"]})),
        "time as text": click(ts_ms="yesterday"),
        "absurd time": click(ts_ms=17),
        "negative price": click(price=-1.0),
        "NaN": click(value=b'{"user_id":"p1","item_id":"i1","kind":"click","ts_ms":1764000000000,"price":NaN}'),
        "bool as number": click(dwell_ms=True),
        "2^70": click(value=b'{"user_id":"p1","item_id":"i1","kind":"click","ts_ms":1180591620717411303424}'),
        "not UTF-8": click(value=b'{"user_id":"p\xff","item_id":"i1","kind":"click","ts_ms":1764000000000}'),
        "control characters": click(item_id="i\u0000"),
        "deep": click(value=b"[" * 100_000),
        "900 kB": click(query="x" * 900_000),
    }
