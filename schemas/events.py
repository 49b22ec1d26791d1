"""User events on the wire, and how a run of records becomes events, rejects and counted results."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Protocol

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder
from msgspec.structs import force_setattr

from schemas import faults
from schemas.faults import MAX_ID_BYTES, MAX_VALUE_BYTES, Fault, Reason

if TYPE_CHECKING:
    Id = str
    Time = int
else:  # The wire takes numbers for ids and fractions for times; decode_run settles both before anybody sees an event.
    Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)] | int
    Time = int | float

Code = Annotated[str, Meta(max_length=128)]

CONFLUENT_PREFIX_BYTES = 5  # a zero byte and the id of a schema, which JSON does not need
CACHED_SCENE_BYTES = 1024
MAX_CACHED_SCENES = 16_384
MAX_KNOWN_KEYS = 1 << 18


class Scene(Struct, frozen=True, gc=False, cache_hash=True):
    """Where and how an event happened; every field is optional, unknown ones are ignored."""

    device: Code | None = None
    os: Code | None = None
    app: Code | None = None
    network: Code | None = None
    region: Code | None = None
    zone: Code | None = None
    locale: Code | None = None
    weather: Code | None = None
    temperature_c: float | None = None
    place: Code | None = None
    lat: Annotated[float, Meta(ge=-90, le=90)] | None = None
    lon: Annotated[float, Meta(ge=-180, le=180)] | None = None


class Event(Struct, frozen=True, gc=False):
    """One thing a user did or a push gateway reported; price is in major units of its currency."""

    user_id: Id
    item_id: Id
    kind: str
    ts_ms: Time
    event_id: str | None = None
    session: str | None = None
    quantity: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    price: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    currency: str | None = None
    dwell_ms: Annotated[float, Meta(ge=0, le=2**32 - 1)] | None = None
    query: str | None = None
    page: str | None = None
    campaign: str | None = None
    scene: Raw = Raw()


class Record(Protocol):
    """What decode_run reads of a Kafka record (aiokafka's ConsumerRecord has more)."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Reject(Struct, frozen=True):
    """A record that is not a message: its position in the run, a word for the metric, a sentence for people."""

    index: int
    reason: Reason
    detail: str


@dataclass(slots=True)
class Run:
    """What a run of records came to: its events, and in parallel to them the columns that everybody reads.

    index: position of the event's record in the run; keys: that record's; scenes: the decoded scene, None for none;
    results: records by outcome: "future" and "expired" are left out of events and are no dead letters,
    "seconds" and "microseconds" are times that were converted.
    """

    events: list[Event] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    ts_ms: list[int] = field(default_factory=list)
    scenes: list[Scene | None] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)

    def only(self, positions: Sequence[int]) -> "Run":
        """The events at these positions, and nothing of the rejects and results."""
        kept = Run()
        for name in _PARALLEL:
            column = getattr(self, name)
            setattr(kept, name, [column[i] for i in positions] if column else [])
        return kept

    def without(self, positions: Iterable[int]) -> "Run":
        """The run without the events at these positions."""
        gone = frozenset(positions)
        kept = self.only([i for i in range(len(self.events)) if i not in gone])
        kept.rejects, kept.results = self.rejects, self.results
        return kept

    def reject(self, found: Iterable[Fault]) -> None:
        """Turn the events at these positions into rejects; the first fault of an event is the one told."""
        told: dict[int, Reject] = {}
        for position, reason, detail in found:
            told.setdefault(position, Reject(self.index[position], reason, detail))
        self.rejects.extend(told.values())
        self.leave_out(told)

    def leave_out(self, positions: Iterable[int]) -> None:
        """Drop the events at these positions."""
        if positions:
            kept = self.without(positions)
            for name in _PARALLEL:
                setattr(self, name, getattr(kept, name))


_PARALLEL = ("events", "index", "keys", "users", "items", "kinds", "ts_ms", "scenes")


def decode_run(
    records: Sequence[Record],
    *,
    kinds: frozenset[str],
    now_ms: int,
    max_skew_ms: int,
    horizon_ms: int,
    max_value_bytes: int = MAX_VALUE_BYTES,
    home: tuple[int, int] | None = None,
    heard_ms: Sequence[int] = (),
) -> Run:
    """Decode records of one partition in one pass; a bad record becomes a reject and never harms its neighbours.

    kinds: the kinds this topic carries. An event later than now + skew is counted "future", one older than the
    horizon "expired". home = (partition, partition count) rejects keys that belong to another partition.
    heard_ms: when Kafka took each record, negative where it does not say; it stands for now where it is earlier, so
    that a replay judges as live did.
    """
    run = _read(records, max_value_bytes)
    run.users = [event.user_id for event in run.events]
    run.items = _settled(run.events, "item_id", [event.item_id for event in run.events])
    run.kinds = [event.kind for event in run.events]
    run.reject(faults.bad_ids("item_id", run.items))
    _check_users(run, home)
    run.reject(faults.bad_kinds(run.kinds, kinds))
    run.reject(_bad_times(run))
    _leave_out_of_time(run, heard_ms, now_ms, max_skew_ms, horizon_ms)
    _see_scenes(run)
    run.rejects.sort(key=lambda reject: reject.index)
    return run


_decode = Decoder(Event).decode
_decode_scene = Decoder(Scene | None).decode


def _read(records: Sequence[Record], max_value_bytes: int) -> Run:
    """Decode all at once where every record is an event, else one by one."""
    keys, values = [record.key for record in records], [record.value for record in records]
    if all(keys) and all(values) and max(map(len, values), default=0) <= max_value_bytes:  # type: ignore[arg-type]
        try:
            return Run(list(map(_decode, values)), list(range(len(values))), keys)  # type: ignore[arg-type]
        except faults.BROKEN:
            pass
    return _read_each(records, max_value_bytes)


def _read_each(records: Sequence[Record], max_value_bytes: int) -> Run:
    run = Run()
    for index, record in enumerate(records):
        value = record.value
        if not value or record.key is None or len(value) > max_value_bytes:
            run.rejects.append(Reject(index, *faults.unreadable(record.key, value, max_value_bytes)))
            continue
        try:
            run.events.append(_decode(value if value[0] else value[CONFLUENT_PREFIX_BYTES:]))
            run.index.append(index)
            run.keys.append(record.key)
        except faults.BROKEN as error:
            run.rejects.append(Reject(index, *faults.explain(error, value)))
    return run


def _check_users(run: Run, home: tuple[int, int] | None) -> None:
    """Look only at users whose key was not found right before: the others are taken by that key."""
    known = _known_keys(home)
    users = run.users
    run.users = list(map(known.get, run.keys))  # type: ignore[arg-type]
    if run.users == users:
        return
    users = _settled(run.events, "user_id", users)
    new = [position for position, user in enumerate(users) if user != run.users[position]]
    for position in new:
        run.users[position] = users[position]
    keys, users = [run.keys[i] for i in new], [users[i] for i in new]
    found = [*faults.bad_ids("user_id", users), *faults.bad_keys(keys, users)]
    found += faults.misplaced(keys, *home) if home else ()
    bad = {position for position, _, _ in found}
    if len(known) > MAX_KNOWN_KEYS // (home or (0, 1))[1]:
        known.clear()
    known.update((keys[i], users[i]) for i in range(len(new)) if i not in bad)
    run.reject((new[position], reason, detail) for position, reason, detail in found)


@lru_cache(maxsize=1024)
def _known_keys(home: tuple[int, int] | None) -> dict[bytes, str]:  # noqa: ARG001
    """Keys lately found to belong to this partition, and the ids they spell; a bounded share for each partition."""
    return {}


def _settled(events: list[Event], name: str, ids: list[str]) -> list[str]:
    """The ids as texts, in the events too."""
    if not {str}.issuperset(map(type, ids)):
        ids = list(map(str, ids))
        for event, text in zip(events, ids, strict=True):
            force_setattr(event, name, text)
    return ids


def _bad_times(run: Run) -> Iterator[Fault]:
    run.ts_ms = [event.ts_ms for event in run.events]
    if faults.all_in_ms(run.ts_ms):
        return
    for position, time in enumerate(run.ts_ms):
        unit, run.ts_ms[position] = faults.in_ms(time)
        if not unit:
            yield position, "time", faults.no_time(time)
            continue
        force_setattr(run.events[position], "ts_ms", run.ts_ms[position])
        if unit != "milliseconds":
            run.results[unit] += 1


def _leave_out_of_time(run: Run, heard_ms: Sequence[int], now_ms: int, max_skew_ms: int, horizon_ms: int) -> None:
    """Leave out events too far from when they were heard, which is now where nobody knows or a clock runs ahead."""
    times, earliest = run.ts_ms, min(heard_ms, default=now_ms)
    if not times or (
        now_ms - horizon_ms <= min(times) and max(times) <= earliest + max_skew_ms and 0 <= earliest <= now_ms
    ):
        return
    heard = [heard_ms[i] for i in run.index] if heard_ms else [now_ms] * len(times)
    judged = list(enumerate(zip(times, [min(ms, now_ms) if ms >= 0 else now_ms for ms in heard], strict=True)))
    expired = [position for position, (ts_ms, at_ms) in judged if ts_ms < at_ms - horizon_ms]
    future = [position for position, (ts_ms, at_ms) in judged if ts_ms > at_ms + max_skew_ms]
    run.results += Counter(expired=len(expired), future=len(future))
    run.leave_out(expired + future)


def _see_scenes(run: Run) -> None:
    raws = [bytes(event.scene) for event in run.events]
    try:
        run.scenes = list(map(_scenes.__getitem__, raws))
    except faults.BROKEN:
        run.reject(_bad_scenes(raws))
        run.scenes = [_scenes[bytes(event.scene)] for event in run.events]


def _bad_scenes(raws: list[bytes]) -> Iterator[Fault]:
    for position, raw in enumerate(raws):
        try:
            _scenes[raw]
        except faults.BROKEN as error:
            yield position, "scene", f"In the scene: {faults.explain(error)[1]}"


class _Scenes(dict[bytes, Scene | None]):
    """Decoded scenes by their bytes, the same object for the same bytes; raises faults.BROKEN."""

    def __missing__(self, raw: bytes) -> Scene | None:
        scene: Scene | None = _decode_scene(raw or b"null")
        if len(raw) <= CACHED_SCENE_BYTES:
            if len(self) >= MAX_CACHED_SCENES:
                self.clear()
            self[raw] = scene
        return scene


_scenes = _Scenes()
