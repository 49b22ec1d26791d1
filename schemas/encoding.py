"""How the messages that leave are written: JSON by orjson, without the fields that have no value."""

from typing import Any

import msgspec
import orjson


def to_json(message: msgspec.Struct) -> bytes:
    """Compact UTF-8 JSON; numpy scalars and arrays are numbers and lists, NaN is null."""
    return orjson.dumps(message, default=_fields, option=orjson.OPT_SERIALIZE_NUMPY)


def _fields(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: part for name, part in msgspec.structs.asdict(value).items() if part is not None}
    raise TypeError
