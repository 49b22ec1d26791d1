"""Writes the JSON Schemas and the AsyncAPI document of all messages, or checks that the committed ones are current."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import orjson

from schemas import dead_letters, topics
from schemas.decisions import Decision
from schemas.events import Event, Scene
from schemas.items import Item
from schemas.recommendations import Recommendation

FOLDER = Path(__file__).parent / "generated"
MESSAGES: dict[str, type[msgspec.Struct]] = {
    "event": Event,
    "item": Item,
    "recommendation": Recommendation,
    "decision": Decision,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Json = dict[str, Any]


def documents() -> dict[str, bytes]:
    """The contents of every generated file, by file name."""
    made: dict[str, Json] = {f"{name}.schema.json": json_schema(kind) for name, kind in MESSAGES.items()}
    made["asyncapi.json"] = asyncapi()
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    return {name: orjson.dumps(document, option=options) + b"\n" for name, document in made.items()}


def json_schema(kind: type[msgspec.Struct]) -> Json:
    """A JSON Schema of one message, complete in itself."""
    parts = _schemas([kind], "#/$defs/{name}")
    root = parts.pop(kind.__name__)
    return {"$schema": DIALECT, **root, **({"$defs": parts} if parts else {})}


def asyncapi() -> Json:
    """One AsyncAPI 3 document: every topic, who sends and who receives, and the messages on it."""
    channels = {name: _channel(name, message) for name, message in _CHANNELS.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Kairos",
            "version": "1.0.0",
            "description": "Shop behaviour in, push candidates out. Keys are ids as UTF-8 text; partitioner murmur2.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {_operation(name): _direction(name) for name in channels},
        "components": {
            "schemas": _schemas(MESSAGES.values(), "#/components/schemas/{name}"),
            "messages": _messages(),
        },
    }


_CHANNELS = {
    topics.CLICKS: "click",
    topics.BROWSES: "browse",
    topics.ORDERS: "order",
    topics.FEEDBACK: "feedback",
    topics.ITEMS: "item",
    topics.RECOMMENDATIONS: "recommendation",
    topics.DECISIONS: "decision",
    topics.DEAD_LETTERS: "dead-letter",
}
_PURPOSE = {
    topics.CLICKS: "Items a user clicked on.",
    topics.BROWSES: "Items a user looked at.",
    topics.ORDERS: "Items put into the cart, bought or returned.",
    topics.FEEDBACK: "What became of a push, told by the push gateway.",
    topics.ITEMS: "The catalogue, compacted; a null value removes an item.",
    topics.RECOMMENDATIONS: "Push candidates and retractions, for the push gateway.",
    topics.DECISIONS: "Every affected user, with the reasons for a push or for silence.",
    topics.DEAD_LETTERS: "Records that could not be used: the original bytes, with headers that say why.",
}
_RECEIVED = {*topics.KINDS, topics.ITEMS}
_CLOUD_EVENT = ("id", "source", "specversion", "type", "subject", "time", "partitionkey", "correlationid")


def _channel(name: str, message: str) -> Json:
    return {
        "address": name,
        "description": _PURPOSE[name],
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operation(name: str) -> str:
    return ("receive " if name in _RECEIVED else "send ") + name


def _direction(name: str) -> Json:
    return {
        "action": "receive" if name in _RECEIVED else "send",
        "channel": {"$ref": f"#/channels/{name}"},
    }


def _messages() -> Json:
    events = {
        _CHANNELS[name]: {"allOf": [_schema("Event"), {"properties": {"kind": {"enum": sorted(kinds)}}}]}
        for name, kinds in topics.KINDS.items()
    }
    made: Json = {name: _message(payload, "user_id") for name, payload in events.items()}
    made["item"] = _message(_schema("Item"), "item_id")
    made["recommendation"] = _message(_schema("Recommendation"), "user.id", (*_CLOUD_EVENT, "expirytime"))
    made["decision"] = _message(_schema("Decision"), "user", _CLOUD_EVENT)
    made["dead-letter"] = {
        "contentType": "application/octet-stream",
        "payload": {"description": "The value of the original record, byte by byte."},
        "headers": _headers(sorted(dead_letters.OURS - {dead_letters.NULL_VALUE})),
    }
    return made


def _message(payload: Json, key: str, cloud_event: tuple[str, ...] = ()) -> Json:
    message: Json = {
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": f"{key} as UTF-8 text"}}},
    }
    if cloud_event:
        message["headers"] = _headers([*(f"ce_{name}" for name in cloud_event), "content-type", "kairos-mode"])
    return message


def _headers(names: list[str]) -> Json:
    return {"type": "object", "required": names, "properties": {name: {"type": "string"} for name in names}}


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(kinds: Iterable[type[msgspec.Struct]], reference: str) -> Json:
    shown = [_with_scene(kind) if kind is Event else kind for kind in kinds]
    return msgspec.json.schema_components(shown, ref_template=reference)[1]


def _with_scene(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The event with its scene as what it means, not as the raw bytes it is kept in."""
    fields: list[Any] = [
        (part.name, Scene | None, None) if part.name == "scene" else
        (part.name, part.type) if part.default is msgspec.NODEFAULT else (part.name, part.type, part.default)
        for part in msgspec.structs.fields(kind)
    ]  # fmt: skip
    return msgspec.defstruct(kind.__name__, fields, namespace={"__doc__": kind.__doc__})


def main(argv: list[str]) -> int:
    """Exit status 1 when a committed document differs from the code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.documents", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write the documents")
    action.add_argument("--check", action="store_true", help="fail when a committed document is not current")
    if parser.parse_args(argv).write:
        FOLDER.mkdir(exist_ok=True)
        for name, content in documents().items():
            (FOLDER / name).write_bytes(content)
        return 0
    drifted = drift(FOLDER)
    if drifted:
        sys.stderr.write(
            f"Not current: {', '.join(drifted)} in {FOLDER.name}/. Run `python -m schemas.documents --write`, "
            "look at the difference as a consumer of the topics would, and commit it.\n"
        )
    return 1 if drifted else 0


def drift(folder: Path) -> list[str]:
    """Names of the files that are missing, differ, or should not be there."""
    current = documents()
    found = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    return sorted(name for name in {*current, *found} if current.get(name) != found.get(name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
