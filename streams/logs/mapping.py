"""How the columns of a foreign behaviour log become Kairos events: a mapping, read from TOML and checked whole.

A mapping file (``kairos demo --events FILE --map MAPPING.toml``)::

    name = "my-shop"

    [time]                                  # the event time
    column = "InvoiceDate"
    unit = "text"                           # s | ms | us | text
    zone = "Europe/London"                  # of stamps that carry none; text only

    [event]                                 # wire field = source; user_id and item_id are required
    user_id = "Customer ID"                 # a source is the name of a column ...
    item_id = "StockCode"
    currency = {value = "GBP"}              # ... or a constant
    session = "Invoice"                     # also: quantity price dwell_ms query page campaign event_id

    [scene]                                 # device os app network region zone locale weather place lat lon ...
    user_agent = "userAgent"                # fills device, os and app
    zone = {value = "Europe/London"}
    region = {columns = ["country", "state"], join = "-"}
    weather = {column = "sky", values = {"sunny" = "clear"}, default = "other"}

    [[kind]]                                # the first rule that holds gives the kind of the line
    kind = "return"
    column = "Invoice"
    matches = "^C"                          # a regular expression, or: above = 0 / below = 0 / nothing = always

    [[drop]]                                # lines that are no behaviour; counted under the reason
    reason = "not goods"
    column = "StockCode"
    matches = "^(POST|M)$"

    [item]                                  # the catalogue: title category brand price currency url image lang
    title = "Description"

    [file]                                  # optional: encoding = "latin-1", delimiter = ";"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

from schemas.events import Event, Scene
from schemas.items import Item
from streams.features.declaration import DEFAULT, Declaration

BUILT_IN = ("online-retail", "deskdrop")
UNITS = ("s", "ms", "us", "text")
EVENT_FIELDS = frozenset(Event.__struct_fields__) - {"kind", "ts_ms", "scene"}
SCENE_FIELDS = frozenset(Scene.__struct_fields__) | {"user_agent"}
ITEM_FIELDS = frozenset(Item.__struct_fields__) - {"item_id", "tags", "in_stock", "ts_ms"}


class MappingError(Exception):
    """A mapping that cannot be used; the text lists every problem of the file."""


@dataclass(frozen=True)
class Source:
    """Where one field comes from: columns joined up to the first missing, looked up in ``values``; or a constant."""

    columns: tuple[str, ...] = ()
    join: str = ""
    values: Dict[str, str] = field(default_factory=dict)
    default: str | None = None
    constant: str | None = None


@dataclass(frozen=True)
class Rule:
    """A predicate on one column; with no column it always holds. ``then`` is the kind, or the reason of the drop."""

    then: str
    column: str | None = None
    matches: str | None = None
    above: float | None = None
    below: float | None = None


@dataclass(frozen=True)
class Mapping:
    """One foreign log: its time, its event, scene and catalogue fields, its rules in order.

    ``streams``: the topic word ("clicks", ...) that carries each kind of the declaration.
    """

    name: str
    time_column: str
    time_unit: str
    time_zone: str
    event: Dict[str, Source]
    scene: Dict[str, Source]
    item: Dict[str, Source]
    kinds: tuple[Rule, ...]
    drops: tuple[Rule, ...]
    streams: Dict[str, str]
    encoding: str = "utf-8"
    delimiter: str = ","

    @property
    def columns(self) -> frozenset[str]:
        """Every column of the log that the mapping names."""
        sources = (*self.event.values(), *self.scene.values(), *self.item.values())
        named = {column for source in sources for column in source.columns}
        ruled = {rule.column for rule in (*self.kinds, *self.drops) if rule.column is not None}
        return frozenset(named | ruled | {self.time_column})

    @property
    def needed(self) -> frozenset[str]:
        """Columns of the time, the user and the item, without which no line is an event."""
        named = {column for name in ("user_id", "item_id") for column in self.event[name].columns}
        return frozenset(named | {self.time_column})

    @property
    def zone(self) -> str:
        """The zone most of the log lives in: the constant of its scene, else the zone of its stamps."""
        source = self.scene.get("zone")
        return (source.constant if source is not None else None) or self.time_zone


def load(name_or_path: str, declaration: Declaration = DEFAULT) -> Mapping:
    """The built-in mapping of that name, else the mapping in that TOML file. Raises MappingError."""
    if name_or_path in BUILT_IN:
        text = resources.files("streams.logs").joinpath(f"mappings/{name_or_path}.toml").read_text("utf-8")
        return parse(text, name_or_path, declaration)
    path = Path(name_or_path)
    if not path.is_file():
        msg = f"{name_or_path} is neither a built-in mapping ({', '.join(BUILT_IN)}) nor a file."
        raise MappingError(msg)
    return parse(path.read_text("utf-8"), path.name, declaration)


def fitting(columns: Collection[str]) -> str:
    """A sentence, after a space, that names the built-in mappings which these columns fit; empty where none does."""
    fit = [name for name in BUILT_IN if load(name).columns <= set(columns)]
    return f" The mapping {' or '.join(fit)} would fit: --map {fit[0]}." if fit else ""


def parse(text: str, name: str, declaration: Declaration = DEFAULT) -> Mapping:
    """A mapping from the text of a TOML file called ``name``, its kinds those of the declaration.

    Raises MappingError with all problems at once.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        msg = f"The mapping {name} is not TOML: {problem}."
        raise MappingError(msg) from problem
    reader = _Reader()
    streams = {kind.wire: kind.topic for kind in declaration.kinds}
    time = reader.table(table, "time")
    file = reader.table(table, "file")
    mapping = Mapping(
        name=str(table.get("name", name)),
        time_column=reader.text(time, "column", "time.column"),
        time_unit=reader.choice(str(time.get("unit", "text")), UNITS, "time.unit"),
        time_zone=reader.zone(str(time.get("zone", "UTC"))),
        event=reader.sources(table, "event", EVENT_FIELDS),
        scene=reader.sources(table, "scene", SCENE_FIELDS),
        item=reader.sources(table, "item", ITEM_FIELDS),
        kinds=reader.rules(table, "kind", "kind", frozenset(streams)),
        drops=reader.rules(table, "drop", "reason", None),
        streams=streams,
        encoding=str(file.get("encoding", "utf-8")),
        delimiter=str(file.get("delimiter", ",")),
    )
    reader.require(mapping)
    if reader.problems:
        msg = f"The mapping {name} cannot be used: " + " ".join(reader.problems)
        raise MappingError(msg)
    return mapping


class _Reader:
    """Reads the parts of a mapping and gathers what is wrong with them as sentences."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def table(self, table: Dict[str, object], name: str) -> Dict[str, object]:
        part = table.get(name, {})
        if isinstance(part, dict):
            return part
        self.problems.append(f"[{name}] must be a table.")
        return {}

    def text(self, table: Dict[str, object], name: str, shown: str) -> str:
        value = table.get(name)
        if isinstance(value, str) and value:
            return value
        self.problems.append(f"{shown} is missing.")
        return ""

    def choice(self, value: str, allowed: tuple[str, ...], shown: str) -> str:
        if value not in allowed:
            self.problems.append(f"{shown} is {value!r}, not one of {', '.join(allowed)}.")
        return value

    def zone(self, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, OSError, ValueError):
            self.problems.append(f"time.zone {name!r} is no time zone.")
        return name

    def sources(self, table: Dict[str, object], part: str, allowed: frozenset[str]) -> Dict[str, Source]:
        fields = self.table(table, part)
        for name in sorted(set(fields) - allowed):
            self.problems.append(f"{part}.{name} is no field; known are {', '.join(sorted(allowed))}.")
        return {name: self._source(value, f"{part}.{name}") for name, value in fields.items() if name in allowed}

    def _source(self, value: object, shown: str) -> Source:
        if isinstance(value, str):
            return Source(columns=(value,))
        if isinstance(value, dict) and "value" in value:
            return Source(constant=str(value["value"]))
        if isinstance(value, dict) and ("column" in value or "columns" in value):
            columns = value.get("columns", [value.get("column")])
            return Source(
                columns=tuple(str(column) for column in columns),
                join=str(value.get("join", "")),
                values={str(key): str(to) for key, to in value.get("values", {}).items()},
                default=str(value["default"]) if "default" in value else None,
            )
        self.problems.append(f"{shown} must be a column's name, {{value = …}} or {{column = …}}.")
        return Source()

    def rules(self, table: Dict[str, object], part: str, then: str, allowed: frozenset[str] | None) -> tuple[Rule, ...]:
        entries = table.get(part, [])
        if not isinstance(entries, list):
            self.problems.append(f"{part} must be written as [[{part}]].")
            return ()
        return tuple(self._rule(entry, part, then, allowed) for entry in entries)

    def _rule(self, entry: Dict[str, object], part: str, then: str, allowed: frozenset[str] | None) -> Rule:
        outcome = self.text(entry, then, f"{then} of a [[{part}]]")
        if allowed is not None and outcome and outcome not in allowed:
            self.problems.append(f"kind {outcome!r} is unknown; known are {', '.join(sorted(allowed))}.")
        matches = entry.get("matches")
        try:
            re.compile(str(matches or ""))
        except re.error as problem:
            self.problems.append(f"the pattern {matches!r} of a [[{part}]] is wrong: {problem}.")
        column = entry.get("column")
        return Rule(
            then=outcome,
            column=None if column is None else str(column),
            matches=None if matches is None else str(matches),
            above=self._number(entry, "above"),
            below=self._number(entry, "below"),
        )

    def _number(self, entry: Dict[str, object], name: str) -> float | None:
        value = entry.get(name)
        if value is None or isinstance(value, (int, float)):
            return None if value is None else float(value)
        self.problems.append(f"{name} = {value!r} must be a number.")
        return None

    def require(self, mapping: Mapping) -> None:
        for name in ("user_id", "item_id"):
            if name not in mapping.event:
                self.problems.append(f"event.{name} is missing.")
        if not mapping.kinds:
            self.problems.append("there is no [[kind]] rule, so no line has a kind.")
