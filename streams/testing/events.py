"""Events and catalogue items in one line each, as bytes that a shop would send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from msgspec.structs import fields

from schemas.encoding import Header
from schemas.events import Event, Scene
from schemas.items import Item
from schemas.topics import Topics
from streams.features.declaration import Declaration, Kind
from streams.testing.times import Clock, Moment

SCENE_FIELDS = frozenset(field.name for field in fields(Scene))
EVENT_FIELDS = frozenset(field.name for field in fields(Event)) - {"user_id", "item_id", "kind", "ts_ms", "scene"}
ITEM_FIELDS = frozenset(field.name for field in fields(Item)) - {"item_id", "ts_ms"}
NO_ITEM = "-"


class Message(NamedTuple):
    """A record on its way to its topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[Header, ...] = ()


class Draft(NamedTuple):
    """An event not sent yet; `kind` by name or by its word on the wire, `scene` None for none."""

    kind: str
    user: str
    item: str
    at: Moment
    fields: Mapping[str, Any]
    scene: Mapping[str, Any] | None

    def message(self, declaration: Declaration, topics: Topics, clock: Clock) -> Message:
        """As its topic carries it; raises ValueError for a kind that is not declared."""
        kind = kind_of(declaration, self.kind)
        body = {
            "user_id": self.user,
            "item_id": self.item,
            "kind": kind.wire,
            "ts_ms": clock.at(self.at),
            **self.fields,
        }
        if self.scene is not None:
            body["scene"] = self.scene
        return Message(getattr(topics, kind.topic), self.user.encode(), orjson.dumps(body))


class Entry(NamedTuple):
    """A word on one item of the catalogue; `fields` None takes it out."""

    item: str
    at: Moment
    fields: Mapping[str, Any] | None

    def message(self, declaration: Declaration, topics: Topics, clock: Clock) -> Message:  # noqa: ARG002
        """As the topic of items carries it."""
        body = None if self.fields is None else {"item_id": self.item, "ts_ms": clock.at(self.at), **self.fields}
        return Message(topics.items, self.item.encode(), None if body is None else orjson.dumps(body))


Sendable = Draft | Entry | Message


def kind_of(declaration: Declaration, word: str) -> Kind:
    """The kind called so, or written so on the wire; raises ValueError when it is not declared."""
    found = next((kind for kind in declaration.kinds if word in {kind.name, kind.wire}), None)
    if found is None:
        known = ", ".join(kind.wire for kind in declaration.kinds)
        text = f"{word!r} is no kind of this declaration, which has {known}: declare it in features.toml"
        raise ValueError(text)
    return found


def event(kind: str, user: str, item: str = NO_ITEM, *, at: Moment = None, **said: Any) -> Draft:
    """An event of any declared kind; `said` are fields of the event and of its scene (`docs/events.md`).

    `scene={...}` is taken as it is. Raises TypeError for a field that events do not have.
    """
    whole = said.pop("scene", None)
    strange = sorted(said.keys() - SCENE_FIELDS - EVENT_FIELDS)
    if strange:
        text = f"events have no field {strange[0]!r}, only {', '.join(sorted(EVENT_FIELDS | SCENE_FIELDS))}"
        raise TypeError(text)
    scene = {name: value for name, value in said.items() if name in SCENE_FIELDS}
    told = {name: value for name, value in said.items() if name in EVENT_FIELDS}
    return Draft(kind, user, item, at, told, {**(whole or {}), **scene} if scene or whole is not None else None)


def click(user: str, item: str, *, at: Moment = None, **said: Any) -> Draft:
    """`user` opens the page of `item`."""
    return event("click", user, item, at=at, **said)


def browse(user: str, item: str, *, at: Moment = None, **said: Any) -> Draft:
    """`user` sees `item` in a list."""
    return event("browse", user, item, at=at, **said)


def add_to_cart(user: str, item: str, *, at: Moment = None, **said: Any) -> Draft:
    """`user` puts `item` into the cart."""
    return event("add-to-cart", user, item, at=at, **said)


def purchase(user: str, item: str, *, at: Moment = None, **said: Any) -> Draft:
    """`user` buys `item`."""
    return event("purchase", user, item, at=at, **said)


def send_back(user: str, item: str, *, at: Moment = None, **said: Any) -> Draft:
    """`user` returns `item`."""
    return event("return", user, item, at=at, **said)


def feedback(kind: str, user: str, item: str = NO_ITEM, *, at: Moment = None, **said: Any) -> Draft:
    """What a push gateway reports: sent, delivered, opened, dismissed, converted, opted-out, token-dead."""
    return event(kind, user, item, at=at, **said)


def item(name: str, *, at: Moment = None, **said: Any) -> Entry:
    """A catalogue entry; raises TypeError for a field that items do not have."""
    strange = sorted(said.keys() - ITEM_FIELDS)
    if strange:
        text = f"items have no field {strange[0]!r}, only {', '.join(sorted(ITEM_FIELDS))}"
        raise TypeError(text)
    return Entry(name, at, said)


def no_item(name: str) -> Entry:
    """Takes an item out of the catalogue."""
    return Entry(name, None, None)
