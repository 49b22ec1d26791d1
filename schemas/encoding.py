"""How the messages that leave are written: JSON by orjson with CloudEvents headers, ready for a Kafka producer."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import orjson

Header = tuple[str, bytes | None]
"""Its name, and a value that may be null."""
Headers = list[Header]


class Message(NamedTuple):
    """What a producer sends: key, value and headers of one record."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def to_json(message: msgspec.Struct) -> bytes:
    """Compact UTF-8 JSON without the fields that are None; numpy scalars are numbers, NaN and infinity are null."""
    return orjson.dumps(message, default=_fields, option=orjson.OPT_SERIALIZE_NUMPY)


def cloud_event(**attributes: str | None) -> Headers:
    """CloudEvents 1.0 headers of the Kafka binding in binary mode, without the attributes that are None."""
    named = {"specversion": "1.0", **attributes}
    headers: Headers = [(f"ce_{name}", text.encode()) for name, text in named.items() if text is not None]
    return [*headers, ("content-type", b"application/json")]


@lru_cache(maxsize=1_024)  # a batch's records share their times
def rfc3339(ts_ms: int) -> str:
    """A time in ms as CloudEvents writes it, in UTC."""
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: part for name, part in msgspec.structs.asdict(value).items() if part is not None}
    raise TypeError
