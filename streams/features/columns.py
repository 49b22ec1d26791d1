"""A run of decoded events as numpy columns: kinds, items and scenes as small codes, local time looked up by place."""

from collections.abc import Sequence
from hashlib import blake2b
from math import isfinite
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.events import Event, Scene
from streams.features.calendar import SLICE_MS, Calendar, country_of, is_zone, zone_at, zone_code
from streams.features.declaration import Declaration, SceneField

MAX_CACHED = 1_000_000


class EventRun(Protocol):
    """What `encode` reads of a decoded run (`schemas.events.Run`)."""

    @property
    def events(self) -> Sequence[Event]: ...
    @property
    def scenes(self) -> Sequence[Scene]: ...
    @property
    def scene_index(self) -> Sequence[int]: ...


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


class Encoder:
    """Turns decoded runs into columns under one declaration; keeps caches of scenes, item codes and local time."""

    def __init__(self, declaration: Declaration, calendar: Calendar | None = None) -> None:
        self.declaration = declaration
        self.calendar = calendar or Calendar()
        self.item_codes = ItemCodes()
        self._values = [_value_codes(field) for field in declaration.scene]
        names = [f.name for f in declaration.scene]
        self._page = names.index("page") if "page" in names else None
        self._pages: dict[str | None, int] = {None: 0}
        self._scenes: dict[Scene, SceneRow] = {}
        self._nowhere = SceneRow(bytes(len(names)), 0, 0, b"")

    def encode(self, run: EventRun) -> Columns:
        """Columns of the events of a run, in the run's order."""
        events = run.events
        n = len(events)
        kinds = self.declaration.code_of_wire
        ts_ms = np.fromiter([e.ts_ms for e in events], np.int64, n)
        codes, scened, place, zone, locale = self._scene_columns(run, n)
        self._fill_page(codes, events)
        self._fill_moment(codes, place, ts_ms)
        if self._page is not None:
            scened = scened | (codes[:, self._page] > 0)
        return Columns(
            ts_ms=ts_ms,
            kind=np.fromiter([kinds[e.kind] for e in events], np.uint8, n),
            item=np.fromiter([self.item_codes[e.item_id] for e in events], np.uint64, n),
            dwell_ms=np.fromiter([e.dwell_ms or 0 for e in events], np.int64, n),
            price_minor=np.rint(np.fromiter([e.price or 0.0 for e in events], np.float64, n) * 100).astype(np.int64),
            codes=codes,
            scened=scened,
            zone=zone,
            locale=locale,
        )

    def scene_codes(self, scene: Scene | None, page: str | None, ts_ms: int) -> NDArray[np.uint8]:
        """Codes of one scene at `ts_ms`, u8[S] in the order of `Declaration.scene_names`."""
        row = self._scene_row(scene) if scene is not None else self._nowhere
        codes = np.zeros((1, len(self.declaration.scene_names)), np.uint8)
        codes[0, : len(row.codes)] = np.frombuffer(row.codes, np.uint8)
        if self._page is not None:
            codes[0, self._page] = self._page_code(page)
        self._fill_moment(codes, np.array([row.place]), np.array([ts_ms]))
        return np.asarray(codes[0])

    def _scene_columns(
        self, run: EventRun, n: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], NDArray[np.uint32], NDArray[np.bytes_]]:
        rows = [*(self._scene_row(scene) for scene in run.scenes), self._nowhere]
        index = np.fromiter(run.scene_index, np.int64, n)
        width = len(self.declaration.scene)
        table = np.frombuffer(b"".join([row.codes for row in rows]), np.uint8).reshape(len(rows), width)
        codes = np.zeros((n, len(self.declaration.scene_names)), np.uint8)
        codes[:, :width] = table[index]
        place = np.array([row.place for row in rows], np.int64)[index]
        zone = np.array([row.zone for row in rows], np.uint32)[index]
        locale = np.array([row.locale for row in rows], "S8")[index]
        return codes, index >= 0, place, zone, locale

    def _fill_page(self, codes: NDArray[np.uint8], events: Sequence[Event]) -> None:
        if self._page is not None:
            pages = self._pages
            codes[:, self._page] = [pages[e.page] if e.page in pages else self._page_code(e.page) for e in events]

    def _page_code(self, page: str | None) -> int:
        if page is None or self._page is None:
            return 0
        if len(self._pages) > MAX_CACHED:
            self._pages = {None: 0}
        code = self._pages[page] = code_of(self.declaration.scene[self._page], self._values[self._page], page)
        return code

    def _fill_moment(self, codes: NDArray[np.uint8], place: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> None:
        keys = (place << 40 | ts_ms // SLICE_MS).tolist()
        packed = np.fromiter(self.calendar.packed(keys), np.int64, len(keys))
        codes[:, -3] = (packed & 255) + 1
        codes[:, -2] = (packed >> 8 & 255) + 1
        codes[:, -1] = packed >> 16

    def _scene_row(self, scene: Scene) -> SceneRow:
        row = self._scenes.get(scene)
        if row is None:
            if len(self._scenes) >= MAX_CACHED:
                self._scenes.clear()
            row = self._scenes[scene] = self._encode_scene(scene)
        return row

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
