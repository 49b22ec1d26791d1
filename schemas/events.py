"""User events on the wire, and how a run of records becomes events, rejects and counted results."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
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


class Scene(Struct, frozen=True, gc=False):
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
    """What a run of records came to; `index` and `scene_index` are parallel to `events`.

    index: position of the event's record in the run; scene_index: position in `scenes`, -1 for none;
    results: records by outcome: "future" and "expired" are left out of events and are no dead letters,
    "seconds" and "microseconds" are times that were converted.
    """

    events: list[Event] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    scene_index: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)

    def reject(self, found: Iterable[Fault]) -> None:
        """Turn the events at these positions into rejects; the first fault of an event is the one told."""
        told: dict[int, Reject] = {}
        for position, reason, detail in found:
            told.setdefault(position, Reject(self.index[position], reason, detail))
        self.rejects.extend(told.values())
        self.leave_out(told)

    def leave_out(self, positions: Iterable[int]) -> None:
        gone = frozenset(positions)
        if gone:
            kept = [position for position in range(len(self.events)) if position not in gone]
            self.events = [self.events[position] for position in kept]
            self.index = [self.index[position] for position in kept]


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
    heard_ms: when Kafka took each record; it stands for now where it is earlier, so that a replay judges as live did.
    """
    run = Run()
    _read(records, run, max_value_bytes)
    users, items = (_settled(run.events, name) for name in ("user_id", "item_id"))
    run.reject([*faults.bad_ids("user_id", users), *faults.bad_ids("item_id", items)])
    keys = [records[index].key or b"" for index in run.index]
    users = [event.user_id for event in run.events]
    wrong = [*faults.bad_keys(keys, users), *faults.bad_kinds([event.kind for event in run.events], kinds)]
    run.reject([*wrong, *(faults.misplaced(keys, *home) if home else ())])
    run.reject(_bad_times(run))
    _leave_out_of_time(
        run, [min(heard_ms[i], now_ms) for i in run.index] if heard_ms else [now_ms], max_skew_ms, horizon_ms
    )
    _see_scenes(run)
    run.rejects.sort(key=lambda reject: reject.index)
    return run


_decode = Decoder(Event).decode
_decode_scene = Decoder(Scene | None).decode


def _read(records: Sequence[Record], run: Run, max_value_bytes: int) -> None:
    for index, record in enumerate(records):
        value = record.value
        if not value or record.key is None or len(value) > max_value_bytes:
            run.rejects.append(Reject(index, *faults.unreadable(record.key, value, max_value_bytes)))
            continue
        try:
            run.events.append(_decode(value if value[0] else value[CONFLUENT_PREFIX_BYTES:]))
            run.index.append(index)
        except faults.BROKEN as error:
            run.rejects.append(Reject(index, *faults.explain(error)))


def _settled(events: list[Event], name: str) -> list[str]:
    get: Callable[[Event], str] = attrgetter(name)
    ids = list(map(get, events))
    if not {str}.issuperset(map(type, ids)):
        ids = list(map(str, ids))
        for event, text in zip(events, ids, strict=True):
            force_setattr(event, name, text)
    return ids


def _bad_times(run: Run) -> Iterator[Fault]:
    if faults.all_in_ms([event.ts_ms for event in run.events]):
        return
    for position, event in enumerate(run.events):
        unit, ts_ms = faults.in_ms(event.ts_ms)
        if not unit:
            yield position, "time", faults.no_time(event.ts_ms)
            continue
        force_setattr(event, "ts_ms", ts_ms)
        if unit != "milliseconds":
            run.results[unit] += 1


def _leave_out_of_time(run: Run, now_ms: list[int], max_skew_ms: int, horizon_ms: int) -> None:
    """Leave out events too far from their `now_ms`, which is one for all or one for each."""
    times = [event.ts_ms for event in run.events]
    if not times or (max(now_ms) - horizon_ms <= min(times) and max(times) <= min(now_ms) + max_skew_ms):
        return
    judged = list(enumerate(zip(times, now_ms if len(now_ms) > 1 else now_ms * len(times), strict=True)))
    expired = [position for position, (ts_ms, now) in judged if ts_ms < now - horizon_ms]
    future = [position for position, (ts_ms, now) in judged if ts_ms > now + max_skew_ms]
    run.results += Counter(expired=len(expired), future=len(future))
    run.leave_out(expired + future)


def _see_scenes(run: Run) -> None:
    raws = [bytes(event.scene) for event in run.events]
    place = dict.fromkeys(raws, -1)
    seen = {raw: _scene(raw) if len(raw) <= CACHED_SCENE_BYTES else _scene.__wrapped__(raw) for raw in place}
    wrong = {raw: scene for raw, scene in seen.items() if isinstance(scene, str)}
    if wrong:
        run.reject([(position, "scene", wrong[raw]) for position, raw in enumerate(raws) if raw in wrong])
        raws = [raw for raw in raws if raw not in wrong]
    for raw in place:
        if isinstance(scene := seen[raw], Scene):
            place[raw] = len(run.scenes)
            run.scenes.append(scene)
    run.scene_index = [place[raw] for raw in raws]


@lru_cache(maxsize=4096)
def _scene(raw: bytes) -> Scene | str | None:
    """The decoded scene, None when there is none, or a sentence that says what is wrong with it."""
    try:
        scene: Scene | None = _decode_scene(raw or b"null")
    except faults.BROKEN as error:
        return f"In the scene: {faults.explain(error)[1]}"
    return scene
