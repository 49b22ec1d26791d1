"""A small made-up behaviour log, recorded as a training reads it."""

import numpy as np
import orjson

from model_server.training.recorded import RawEvent, Recorded, record
from streams.features.declaration import DEFAULT

START_MS = 1_700_000_000_000
STREAMS = {"click": "clicks", "browse": "browses", "add-to-cart": "orders", "purchase": "orders"}


def raw_events(seed: int = 0, *, users: int = 30, items: int = 60, events: int = 1_500) -> list[RawEvent]:
    """Users who like three items each and what is new; clicks, some carts and purchases, scenes with gaps."""
    rng = np.random.default_rng(seed)
    favourites = rng.integers(0, items, (users, 3))
    made = []
    ts_ms = START_MS
    for n in range(events):
        ts_ms += int(rng.exponential(240_000))
        user = int(rng.integers(0, users))
        fresh = min(items - 1, n * items // events)
        item = int(rng.choice(favourites[user])) if rng.random() < 0.5 else max(0, fresh - int(rng.integers(0, 4)))
        kind = str(rng.choice(["click", "click", "browse", "add-to-cart", "purchase"]))
        value = {"user_id": f"u{user}", "item_id": f"i{item}", "kind": kind, "ts_ms": ts_ms, "price": 1 + item % 7}
        if rng.random() < 0.8:
            value["scene"] = {"device": ["phone", "desktop"][user % 2], "region": "BR-SP", "zone": "America/Sao_Paulo"}
        made.append(RawEvent(STREAMS[kind], f"u{user}".encode(), orjson.dumps(value)))
    return made


def recorded(seed: int = 0, *, users: int = 30, items: int = 60, events: int = 1_500) -> Recorded:
    """The same as columns, with a catalogue of five categories and prices for most items."""
    catalogue = {
        f"i{n}": {"title": f"thing {n}", "category": f"c{n % 5}", **({"price": float(1 + n % 7)} if n % 4 else {})}
        for n in range(items)
    }
    return record(raw_events(seed, users=users, items=items, events=events), catalogue, DEFAULT, "UTC")
