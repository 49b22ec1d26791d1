"""A shop's `features.toml`: entries over those of the default declaration, every mistake named."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, ValidationError, convert

from streams.features.declaration import (
    DEFAULT,
    Declaration,
    DeclarationError,
    Kind,
    SceneField,
    Window,
    length_ms,
)


def load(path: Path) -> Declaration:
    """Read a `features.toml` over the default: its tables add or replace entries by name.

    An entry of `kinds`, `windows` or `scene` that is `false` takes one out.
    Raises DeclarationError naming the entry that is wrong.
    """
    try:
        return merge(DEFAULT, tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        message = f"The features file {path} (KAIROS_FEATURES) cannot be read: {error.strerror}."
    except (ValueError, DeclarationError) as error:
        message = (
            f"The features file {path} (KAIROS_FEATURES) is wrong: {error}. docs/features.md shows what it may hold."
        )
    raise DeclarationError(message)


class _Features(Struct, forbid_unknown_fields=True):
    """A `features.toml`: entries by name over those of the default, `false` to take one out."""

    kinds: dict[str, dict[str, Any] | Literal[False]] = {}
    windows: dict[str, str | int | Literal[False]] = {}
    scene: dict[str, dict[str, Any] | Literal[False]] = {}
    history: int | None = None
    hour_of_week: bool | None = None
    session_gap_ms: int | None = None
    period_ms: int | None = None
    delays_ms: tuple[int, ...] | None = None


def merge(base: Declaration, table: dict[str, Any]) -> Declaration:
    """`base` with the entries of a parsed `features.toml` added, replaced or taken out by name; windows by length."""
    try:
        read = convert(table, _Features)
    except ValidationError as error:
        message = f"features: {error}"
        raise DeclarationError(message) from error
    kinds, scene, windows = {k.name: k for k in base.kinds}, {f.name: f for f in base.scene}, dict[str, Window]()
    windows.update({w.name: w for w in base.windows})
    for name, kind in read.kinds.items():
        _put(kinds, "kinds", name, kind, kinds.get(name, Kind(name, name, "clicks")))
    for name, field in read.scene.items():
        _put(scene, "scene", name, field, scene.get(name, SceneField(name)))
    for name, length in read.windows.items():
        windows.pop(name, None)
        if length is not False:
            windows[name] = Window(name, length_ms(length))
    plain = {name: getattr(read, name) for name in read.__struct_fields__ if name not in ("kinds", "windows", "scene")}
    return dataclasses.replace(
        base,
        kinds=tuple(kinds.values()),
        windows=tuple(sorted(windows.values(), key=lambda w: w.length_ms)),
        scene=tuple(scene.values()),
        **{name: value for name, value in plain.items() if value is not None},
    )


def _put(known: dict[str, Any], section: str, name: str, entry: dict[str, Any] | Literal[False], old: Any) -> None:
    """Put an entry of a section over the old one of its name, or take it out."""
    if entry is False:
        known.pop(name, None)
        return
    fields = {field.name for field in dataclasses.fields(old)} - {"name"}
    strange = sorted(entry.keys() - fields)
    if strange:
        message = f"{section}.{name}: there is no field {strange[0]!r}, only {', '.join(sorted(fields))}"
        raise DeclarationError(message)
    try:
        known[name] = convert({**dataclasses.asdict(old), **entry}, type(old))
    except ValidationError as error:
        message = f"{section}.{name}: {error}"
        raise DeclarationError(message) from error
