"""A run of decoded events as numpy columns: kinds, items and scenes as small codes, local time looked up by place."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import isfinite
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.events import Event, Scene
from streams.features.calendar import Calendar, country_of, is_zone, zone_at, zone_code
from streams.features.declaration import DERIVED_FIELDS, Declaration, SceneField

MAX_CACHED = 1_000_000
MAX_CACHED_SCENES = 65_536


class EventRun(Protocol):
    """What `encode` reads of a decoded run (`schemas.events.Run`)."""

    @property
    def events(self) -> Sequence[Event]: ...
    @property
    def items(self) -> Sequence[str]: ...
    @property
    def kinds(self) -> Sequence[str]: ...
    @property
    def ts_ms(self) -> Sequence[int]: ...
    @property
    def scenes(self) -> Sequence[Scene | None]: ...


class Columns(NamedTuple):
    """E events as columns; codes u8[E, S] in the order of `Declaration.scene_names`, `scened` says who had a scene."""

    ts_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    item: NDArray[np.uint64]
    dwell_ms: NDArray[np.int64]
    price_minor: NDArray[np.int64]
    codes: NDArray[np.uint8]
    scened: NDArray[np.bool_]
    zone: NDArray[np.uint32]
    locale: NDArray[np.bytes_]

    def take(self, index: NDArray[np.int64]) -> "Columns":
        """The events at `index`."""
        return Columns._make(column[index] for column in self)

    @property
    def size(self) -> int:
        """Number of events."""
        return len(self.ts_ms)


def item_code(item_id: str) -> int:
    """64-bit code of an item id, never 0."""
    return int.from_bytes(blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") or 1


class ItemCodes(dict[str, int]):
    """Codes of item ids, computed on first sight and forgotten together when a million are known."""

    def __missing__(self, item_id: str) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        code = self[item_id] = item_code(item_id)
        return code


class SceneRow(NamedTuple):
    """One scene as codes: declared fields (page left 0), place number, zone code, locale."""

    codes: bytes
    place: int
    zone: int
    locale: bytes


class _SceneTable(dict[Any, int]):
    """Numbers of scenes, encoded on first sight into `rows` and forgotten together; number 0 is no scene."""

    def __init__(self, width: int, encode: Callable[[Scene], SceneRow]) -> None:
        super().__init__({None: 0})
        codes = np.dtype(("u1", (width,)))
        self.rows = np.zeros(64, [("codes", codes), ("place", "<i8"), ("zone", "<u4"), ("locale", "S8")])
        self._encode = encode

    def __missing__(self, scene: Scene) -> int:
        number = len(self)
        if number == len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
        codes, *rest = self._encode(scene)
        self.rows[number] = (np.frombuffer(codes, np.uint8), *rest)
        self[scene] = number
        return number


class _Pages(dict[str | None, int]):
    """Codes of pages, computed on first sight and forgotten together when a million are known."""

    def __init__(self, field: SceneField) -> None:
        super().__init__({None: 0})
        self._field, self._values = field, _value_codes(field)

    def __missing__(self, page: str | None) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        code = self[page] = code_of(self._field, self._values, page)
        return code


class Encoder:
    """Turns decoded runs into columns under one declaration; keeps caches of scenes, item codes and local time."""

    def __init__(self, declaration: Declaration, calendar: Calendar | None = None) -> None:
        self.declaration = declaration
        self.calendar = calendar or Calendar()
        self.item_codes = ItemCodes()
        self._values = [_value_codes(field) for field in declaration.scene]
        names = [f.name for f in declaration.scene]
        self._page = names.index("page") if "page" in names else None
        self._pages = _Pages(declaration.scene[self._page] if self._page is not None else SceneField("page"))
        self._scenes = _SceneTable(len(names), self._encode_scene)

    def encode(self, run: EventRun) -> Columns:
        """Columns of the events of a run, in the run's order."""
        events, n = run.events, len(run.events)
        if len(self._scenes) > MAX_CACHED_SCENES:
            self._scenes = _SceneTable(len(self.declaration.scene), self._encode_scene)
        number = np.fromiter(map(self._scenes.__getitem__, run.scenes), np.int64, n)
        scene = self._scenes.rows[number]
        ts_ms = np.fromiter(run.ts_ms, np.int64, n)
        codes = self._codes(scene, [event.page for event in events] if self._page is not None else [], ts_ms)
        scened = number > 0
        if self._page is not None:
            scened |= codes[:, self._page] > 0
        price = np.fromiter([event.price or 0.0 for event in events], np.float64, n)
        return Columns(
            ts_ms=ts_ms,
            kind=np.fromiter(map(self.declaration.code_of_wire.__getitem__, run.kinds), np.uint8, n),
            item=np.fromiter(map(self.item_codes.__getitem__, run.items), np.uint64, n),
            dwell_ms=np.fromiter([event.dwell_ms or 0 for event in events], np.int64, n),
            price_minor=np.rint(price * 100).astype(np.int64),
            codes=codes,
            scened=scened,
            zone=scene["zone"],
            locale=scene["locale"],
        )

    def scene_codes(self, scene: Scene | None, page: str | None, ts_ms: int) -> NDArray[np.uint8]:
        """Codes of one scene at `ts_ms`, u8[S] in the order of `Declaration.scene_names`."""
        number = self._scenes[scene]
        return np.asarray(self._codes(self._scenes.rows[number : number + 1], [page], np.array([ts_ms]))[0])

    def _codes(
        self, scene: NDArray[np.void], pages: Sequence[str | None], ts_ms: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Codes u8[E, S] of E scenes, the pages they are on and the local moments of their places."""
        codes = np.empty((len(scene), len(self.declaration.scene_names)), np.uint8)
        codes[:, : len(self.declaration.scene)] = scene["codes"]
        if self._page is not None:
            codes[:, self._page] = np.fromiter(map(self._pages.__getitem__, pages), np.uint8, len(scene))
        codes[:, -len(DERIVED_FIELDS) :] = self.calendar.codes(scene["place"], ts_ms)
        return codes

    def _encode_scene(self, scene: Scene) -> SceneRow:
        codes = bytes(
            0 if field.name == "page" else code_of(field, values, getattr(scene, field.name, None))
            for field, values in zip(self.declaration.scene, self._values, strict=True)
        )
        zone = scene.zone if scene.zone and is_zone(scene.zone) else None
        if zone is None and scene.lat is not None and scene.lon is not None:
            zone = zone_at(scene.lat, scene.lon)
        place = self.calendar.place(zone, country_of(scene.region, scene.locale))
        return SceneRow(codes, place, zone_code(zone or ""), (scene.locale or "").encode()[:8])


def _value_codes(field: SceneField) -> dict[str, int]:
    return {value: i for i, value in enumerate(field.values, 1)}


def code_of(field: SceneField, values: dict[str, int], value: str | float | None) -> int:
    """Code of a value of a scene field: 0 unknown, its place among the listed values, its hash bucket, or "other"."""
    if value is None or value == "":
        return 0
    if field.step:
        number = float(value)
        steps = min(max((number - field.low) / field.step, 0.0), len(field.values) - 1.0)
        return 1 + int(steps) if isfinite(number) else 0
    word = str(value).strip().lower()
    if word in values:
        return values[word]
    if field.buckets:
        return 1 + len(values) + item_code(word) % field.buckets
    return values.get("other", 0)
