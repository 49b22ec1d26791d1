"""The one declaration (kinds, windows, scene fields, history) that every row, view and field list is made from."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from schemas.events import Scene
from schemas.topics import USER_WORDS

BUCKETS = 12
"""Buckets a window is cut into: a window read at any moment is wrong by at most one bucket, 1/12 of its length."""

DERIVED_FIELDS = ("hour", "weekday", "holiday")
"""Fields looked up from place and time: hour 1..24, weekday 1..7 (Monday 1), holiday 1..4 (none, eve, on, after)."""
HOUR, WEEKDAY = (DERIVED_FIELDS.index(name) - len(DERIVED_FIELDS) for name in ("hour", "weekday"))
"""Columns of a scene's codes, from their end; both codes begin at 1."""
DERIVED_SIZES = {"hour": 25, "weekday": 8, "holiday": 5}

ROW_FORMAT = 2
"""Counts up when the layout of stored rows changes for every declaration."""

UNITS_MS = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

URGENT, CLICK, BROWSE, BACKFILL = range(4)
"""Priority classes of the affected-user queue, most urgent first."""
CLASSES = ("urgent", "click", "browse", "back-fill")


class DeclarationError(ValueError):
    """A declaration that cannot be built; the text names the entry and the way out."""

    exit_code = 78  # EX_CONFIG of sysexits: starting again does not help


@dataclass(frozen=True)
class Kind:
    """One kind of event: its name in the row, its word on the wire, and what it touches.

    `window`: counted in the rolling windows. `history`: kept in the user's history. `active`: done by the user
    (moves sessions, scene and the hour-of-week histogram). `item`: counted in the item's row. `strong`: a purchase-like
    action. `priority`: class of the rescore it causes, None for none.
    """

    name: str
    wire: str
    topic: str
    window: bool = False
    history: bool = False
    active: bool = False
    item: bool = False
    strong: bool = False
    priority: int | None = None


@dataclass(frozen=True)
class Window:
    """A rolling window of `length_ms`, kept as a ring of `BUCKETS` buckets of `hop_ms`."""

    name: str
    length_ms: int

    @property
    def hop_ms(self) -> int:
        """Length of one bucket in milliseconds."""
        return self.length_ms // BUCKETS


@dataclass(frozen=True)
class SceneField:
    """A categorical field of the scene: code 0 is unknown, then the listed values, then `buckets` hashed ones.

    `step` turns a number into a value: code = 1 + clamp(floor((x - low) / step)). `profile`: kept in item rows.
    """

    name: str
    values: tuple[str, ...] = ()
    buckets: int = 0
    profile: bool = False
    low: float = 0.0
    step: float = 0.0

    @property
    def size(self) -> int:
        """Number of codes, the unknown one included; at most 256."""
        return 1 + len(self.values) + self.buckets


@dataclass(frozen=True)
class Declaration:
    """What a shop keeps about its users and items; everything else is generated from it."""

    kinds: tuple[Kind, ...]
    windows: tuple[Window, ...]
    scene: tuple[SceneField, ...]
    history: int = 128
    hour_of_week: bool = True
    session_gap_ms: int = 30 * UNITS_MS["min"]
    period_ms: int = 28 * UNITS_MS["d"]
    delays_ms: tuple[int, ...] = (50, 150, 500, 60_000)

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def schema(self) -> int:
        """Number of the row's schema: changes with anything that changes the meaning of a stored byte."""
        meaning = (
            ROW_FORMAT,
            [(k.name, k.window, k.history, k.active, k.item) for k in self.kinds],
            [(w.name, w.length_ms) for w in self.windows],
            self.scene,
            self.history,
            self.hour_of_week,
            self.period_ms,
        )
        return zlib.crc32(repr(meaning).encode()) or 1

    @cached_property
    def window_kinds(self) -> tuple[Kind, ...]:
        """Kinds counted in the user's windows, in row order."""
        return tuple(k for k in self.kinds if k.window)

    @cached_property
    def item_kinds(self) -> tuple[Kind, ...]:
        """Kinds counted in item rows, in row order."""
        return tuple(k for k in self.kinds if k.item)

    @cached_property
    def code_of_wire(self) -> dict[str, int]:
        """Wire word of a kind -> its code (index in `kinds`)."""
        return {k.wire: i for i, k in enumerate(self.kinds)}

    def code(self, name: str) -> int:
        """Code of the kind called `name`, -1 where it is not declared."""
        return next((i for i, k in enumerate(self.kinds) if k.name == name), -1)

    def wire_kinds(self, topic: str) -> frozenset[str]:
        """Wire words accepted on `topic` ("clicks", "browses", "orders", "feedback")."""
        return frozenset(k.wire for k in self.kinds if k.topic == topic)

    @cached_property
    def scene_names(self) -> tuple[str, ...]:
        """Names of the columns of a scene's codes: the declared fields, then hour, weekday, holiday."""
        return (*(f.name for f in self.scene), *DERIVED_FIELDS)

    @cached_property
    def scene_sizes(self) -> tuple[int, ...]:
        """Number of codes of each field of `scene_names`."""
        return (*(f.size for f in self.scene), *(DERIVED_SIZES[n] for n in DERIVED_FIELDS))

    @cached_property
    def profile_names(self) -> tuple[str, ...]:
        """Scene fields by which an item's row keeps a profile: hour, weekday, then the codes a delta carries."""
        return ("hour", "weekday", *self.delta_fields)

    @cached_property
    def delta_fields(self) -> tuple[str, ...]:
        """Scene fields whose codes an item delta carries (at most seven)."""
        return (*(f.name for f in self.scene if f.profile), "holiday")

    def size_of(self, field: str) -> int:
        """Number of codes of the scene field called `field`."""
        return self.scene_sizes[self.scene_names.index(field)]


ON_THE_WIRE = (*Scene.__struct_fields__, "page")
"""What an event tells of its scene; a declaration chooses among these."""


def _check(declaration: Declaration) -> None:
    for what, names in (
        ("kind", [k.name for k in declaration.kinds]),
        ("wire word", [k.wire for k in declaration.kinds]),
        ("window", [w.name for w in declaration.windows]),
        ("scene field", list(declaration.scene_names)),
    ):
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            text = f"{what} {twice[0]!r} is declared twice: give each its own name"
            raise DeclarationError(text)
    for text in _troubles(declaration):
        raise DeclarationError(text)


def _troubles(declaration: Declaration) -> Iterator[str]:
    for kind in declaration.kinds:
        yield from _kind_troubles(kind)
    for window in declaration.windows:
        if window.length_ms < BUCKETS or window.length_ms % BUCKETS:
            yield f"window {window.name!r} of {window.length_ms} ms does not divide into {BUCKETS} buckets"
    for field in declaration.scene:
        yield from _field_troubles(field)
    if not declaration.windows:
        yield "there is no window left: keep at least one"
    lengths = [window.length_ms for window in declaration.windows]
    if lengths != sorted(set(lengths)):
        yield f"windows of {lengths} ms: declare them from the shortest to the longest, each length once"
    if len(declaration.delta_fields) > 7:
        yield (
            f"profile fields {declaration.delta_fields} do not fit an item delta: at most 7, holiday included; "
            "set profile = false on one of them"
        )
    yield from _number_troubles(declaration)


def _kind_troubles(kind: Kind) -> Iterator[str]:
    if kind.topic not in USER_WORDS:
        yield f"kinds.{kind.name}: topic {kind.topic!r} is none of {', '.join(USER_WORDS)}"
    if kind.priority is not None and not 0 <= kind.priority < len(CLASSES):
        yield f"kinds.{kind.name}: priority {kind.priority} is none of 0 (urgent), 1, 2, 3 (back-fill)"


def _field_troubles(field: SceneField) -> Iterator[str]:
    if field.name not in ON_THE_WIRE:
        yield f"scene.{field.name}: events do not carry it, they carry {', '.join(ON_THE_WIRE)}"
    if field.size > 256:
        yield f"scene field {field.name!r} has {field.size} codes: at most 256 fit in a byte"
    if any(value != value.strip().lower() for value in field.values):
        yield f"scene.{field.name}: write its values in lower case, which is how they are compared"


def _number_troubles(declaration: Declaration) -> Iterator[str]:
    if not 1 <= declaration.history <= 65_535:
        yield f"history = {declaration.history}: keep between 1 and 65535 entries"
    if len(declaration.delays_ms) != len(CLASSES) or min(declaration.delays_ms) < 0:
        yield f"delays_ms = {list(declaration.delays_ms)}: write {len(CLASSES)} delays, one for each class"
    if min(declaration.session_gap_ms, declaration.period_ms) < 1000:
        yield "session_gap_ms and period_ms are lengths of at least 1000 ms"


def length_ms(text: str | int) -> int:
    """Milliseconds of a length such as "5min", "1h", "30d", or of a plain number of milliseconds."""
    if isinstance(text, int):
        return text
    for unit, factor in sorted(UNITS_MS.items(), key=lambda pair: -len(pair[0])):
        if text.endswith(unit) and text.removesuffix(unit).isdigit():
            return int(text.removesuffix(unit)) * factor
    message = f"{text!r} is no length of time: write a whole number and one of {', '.join(UNITS_MS)}, as in '5min'"
    raise DeclarationError(message)


def _seen(name: str, topic: str, priority: int, *, wire: str = "", strong: bool = False) -> Kind:
    return Kind(
        name, wire or name, topic, window=True, history=True, active=True, item=True, strong=strong, priority=priority
    )


DEFAULT = Declaration(
    kinds=(
        _seen("click", "clicks", CLICK),
        _seen("browse", "browses", BROWSE),
        _seen("cart", "orders", URGENT, wire="add-to-cart", strong=True),
        _seen("purchase", "orders", URGENT, strong=True),
        Kind("return", "return", "orders", history=True, active=True, priority=URGENT),
        Kind("pushed", "sent", "feedback", window=True),
        Kind("delivered", "delivered", "feedback"),
        Kind("opened", "opened", "feedback", window=True, history=True, active=True, priority=CLICK),
        Kind("dismissed", "dismissed", "feedback", history=True),
        Kind("converted", "converted", "feedback"),
        Kind("opted_out", "opted-out", "feedback", priority=URGENT),
        Kind("token_dead", "token-dead", "feedback", priority=URGENT),
    ),
    windows=tuple(Window(name, length_ms(name)) for name in ("5min", "1h", "24h", "7d", "30d")),
    scene=(
        SceneField("device", ("phone", "tablet", "desktop", "watch", "tv", "other"), profile=True),
        SceneField("os", ("ios", "android", "windows", "macos", "linux", "harmonyos", "other")),
        SceneField("app", ("app", "web", "mini-program", "other")),
        SceneField("network", ("wifi", "cellular", "ethernet", "offline", "other"), profile=True),
        SceneField("region", buckets=63, profile=True),
        SceneField("weather", ("clear", "clouds", "rain", "snow", "storm", "fog", "wind", "other"), profile=True),
        SceneField("temperature_c", values=tuple(f"{t}" for t in range(-20, 45, 5)), low=-20.0, step=5.0),
        SceneField("place", ("home", "work", "transit", "store", "outdoors", "other"), profile=True),
        SceneField(
            "page",
            ("home", "search", "category", "item", "cart", "checkout", "account", "push", "other"),
            profile=True,
        ),
    ),
)
"""The declaration of a shop that declares nothing."""
