"""The rules of a user's row, one a test."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from schemas.events import Event, Run, Scene
from streams.features.blobs import CorruptError, unframed
from streams.features.calendar import zone_code
from streams.features.columns import Encoder, item_code
from streams.features.declaration import BUCKETS, DEFAULT, Declaration
from streams.features.features_file import merge
from streams.features.fold import Folded, fold_users
from streams.features.history import dwell_code
from streams.features.rows import NO_RESCORE, Layout, RowSlab, SchemaMismatchError
from streams.features.view import UserView, user_view

T0 = 1_760_000_400_000
MIN, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SMALL = merge(DEFAULT, {"history": 8})


def event(ts_ms: int, kind: str = "click", item: str = "i1", user: str = "u", **fields: object) -> Event:
    return Event(user_id=user, item_id=item, kind=kind, ts_ms=ts_ms, **fields)  # type: ignore[arg-type]


class Store:
    """Rows of a few users, folded chunk by chunk."""

    def __init__(self, declaration: Declaration = DEFAULT) -> None:
        self.declaration = declaration
        self.layout = Layout(declaration)
        self.encoder = Encoder(declaration)
        self.slab = RowSlab(self.layout, 1)

    def fold(self, events: Sequence[Event], scenes: Sequence[Scene | None] = ()) -> Folded:
        run = Run(list(events), scenes=list(scenes or [None] * len(events)))
        run.items, run.kinds = [e.item_id for e in events], [e.kind for e in events]
        run.ts_ms = [e.ts_ms for e in events]
        slots = self.slab.slots_or_add([e.user_id for e in events])
        return fold_users(self.layout, self.slab.rows, slots, self.encoder.encode(run))

    def view(self, now_ms: int, user: str = "u") -> UserView:
        return user_view(self.layout, self.slab.rows[self.slab.slots([user])], now_ms)

    def blob(self, user: str = "u") -> bytes:
        return bytes(self.layout.pack(self.slab.rows[self.slab.slots([user])])[0])

    def count(self, now_ms: int, kind: str, window: str) -> int:
        k = [x.name for x in self.declaration.window_kinds].index(kind)
        w = [x.name for x in self.declaration.windows].index(window)
        return int(self.view(now_ms).windows[0, k, w])


def test_a_window_counts_what_is_inside_it_and_forgets_at_read() -> None:
    store = Store()
    store.fold([event(T0), event(T0 + 10 * MIN), event(T0 + 11 * MIN, "browse")])
    assert store.count(T0 + 11 * MIN, "click", "5min") == 1
    assert store.count(T0 + 11 * MIN, "click", "1h") == 2
    assert store.count(T0 + 11 * MIN, "browse", "5min") == 1
    assert store.count(T0 + 17 * MIN, "click", "5min") == 0, "a silent user's windows move without an event"
    assert store.count(T0 + 10 * MIN + 40 * DAY, "click", "30d") == 0


def test_a_window_is_wrong_by_at_most_one_bucket() -> None:
    store = Store()
    store.fold([event(T0)])
    for window in DEFAULT.windows:
        inside, outside = T0 + window.length_ms - window.hop_ms - 1, T0 + window.length_ms
        assert store.count(inside, "click", window.name) == 1
        assert store.count(outside, "click", window.name) == 0


def test_a_late_event_counts_while_its_bucket_exists() -> None:
    store = Store()
    store.fold([event(T0)])
    folded = store.fold([event(T0 - 2 * HOUR), event(T0 - MIN), event(T0 - 40 * DAY)])
    assert folded.late == {"kept": 1, "partial": 1, "dropped": 1}
    assert store.count(T0, "click", "1h") == 2
    assert store.count(T0, "click", "24h") == 3
    assert store.view(T0).totals[0, 0] == 4, "an event too late for every window still counts in the totals"


def test_a_bucket_saturates() -> None:
    store = Store()
    for _ in range(3):
        store.fold([event(T0)] * 200)
    assert store.count(T0, "click", "5min") == 255


def test_the_history_keeps_the_newest_entries_in_order_whatever_the_arrival() -> None:
    store = Store(SMALL)
    times = [5, 1, 9, 3, 7, 11, 2, 8, 4, 10, 6]
    for t in times:
        store.fold([event(T0 + t * 1000, item=f"i{t}")])
    view = store.view(T0 + 20_000)
    newest = sorted(times, reverse=True)[:8]
    assert view.item[0].tolist() == [item_code(f"i{t}") for t in newest]
    assert view.ts_s[0].tolist() == [T0 // 1000 + t for t in newest]


@pytest.mark.parametrize("seed", range(6))
def test_a_row_is_a_function_of_the_set_of_its_events(seed: int) -> None:
    rng = random.Random(seed)
    scenes = [None, Scene(device="phone", zone="Asia/Shanghai", locale="zh-CN"), Scene(device="tv", region="BR-SP")]
    kinds = [k.wire for k in DEFAULT.kinds]
    whole = [
        (
            event(
                T0 + rng.randrange(rng.choice([5_000, HOUR, 40 * DAY])),
                rng.choice(kinds),
                f"i{rng.randrange(9)}",
                f"u{rng.randrange(4)}",
                dwell_ms=rng.choice([None, 0, 400, 90_000]),
                price=rng.choice([None, 1.23]),
                page=rng.choice([None, "cart"]),
            ),
            rng.choice(scenes),
        )
        for _ in range(400)
    ]
    blobs = []
    for chunk in (1, 7, 400):
        store = Store(SMALL)
        rng.shuffle(whole)
        for i in range(0, len(whole), chunk):
            part = whole[i : i + chunk]
            store.fold([e for e, _ in part], [s for _, s in part])
        blobs.append([store.blob(f"u{u}") for u in range(4)])
    assert blobs[0] == blobs[1] == blobs[2]


def test_a_session_ends_with_a_gap_longer_than_the_gap() -> None:
    store = Store()
    store.fold([event(T0 + m * MIN, item=f"i{m}") for m in (0, 40, 70, 100)])
    view = store.view(T0 + 110 * MIN)
    assert view.session_n[0] == 3
    assert view.session_start_ms[0] == T0 + 40 * MIN
    assert view.in_session[0]
    assert not store.view(T0 + 131 * MIN).in_session[0]


def test_a_late_event_joins_two_sessions_into_one() -> None:
    store = Store()
    store.fold([event(T0), event(T0 + 50 * MIN)])
    assert store.view(T0 + HOUR).session_n[0] == 1
    store.fold([event(T0 + 25 * MIN)])
    assert store.view(T0 + HOUR).session_n[0] == 3


def test_scene_and_place_are_those_of_the_newest_event_that_told_them() -> None:
    store = Store()
    store.fold(
        [event(T0, page="home"), event(T0 + 2000), event(T0 + 1000)],
        [
            Scene(device="phone", zone="America/Sao_Paulo", locale="pt-BR"),
            None,
            Scene(device="desktop", zone="No/Where"),
        ],
    )
    view = store.view(T0)
    names = DEFAULT.scene_names
    assert view.scene[0, names.index("device")] == DEFAULT.scene[0].values.index("desktop") + 1
    assert view.zone[0] == zone_code("America/Sao_Paulo")
    assert view.locale[0] == b"pt-BR"


def test_feedback_marks_the_user_and_only_asks_for_a_rescore_where_declared() -> None:
    store = Store()
    folded = store.fold(
        [event(T0, "sent"), event(T0 + 1, "opted-out", user="v"), event(T0 + 2, "token-dead", user="v")]
    )
    assert folded.priority.tolist() == [NO_RESCORE, 0]
    view = store.view(T0, "v")
    assert (view.opted_out_ms[0], view.token_dead_ms[0]) == (T0 + 1, T0 + 2)
    assert store.count(T0, "pushed", "1h") == 1
    assert not store.view(T0).valid[0].any(), "a push that was sent is nothing the user did"


def test_sums_are_integers() -> None:
    store = Store()
    store.fold([event(T0, "purchase", price=1.1), event(T0, "purchase", price=2.2), event(T0, dwell_ms=2900)])
    view = store.view(T0)
    assert view.price_mean[0] == np.float32(1.65)
    assert view.dwell_s[0] == 2


def test_the_hour_of_week_is_local() -> None:
    store = Store()
    store.fold([event(1_764_032_400_000)], [Scene(zone="Asia/Shanghai")])  # Tuesday 2025-11-25 01:00 UTC = 09:00 there
    assert np.flatnonzero(store.view(T0).hour_of_week[0]).tolist() == [24 + 9]


def test_dwell_codes_grow_with_the_logarithm() -> None:
    codes = dwell_code(np.array([0, 1, 999, 1000, 3000, 7000, 2**50]))
    assert codes.tolist() == [0, 1, 1, 2, 3, 4, 32]


def test_a_blob_leaves_out_what_is_zero_and_comes_back_whole() -> None:
    store = Store()
    store.fold([event(T0), event(T0 + 1000, item="i2")])
    blob, layout = store.blob(), store.layout
    filled = np.count_nonzero(layout.unpack([blob]).view(np.uint8)[layout.shape.head :][: layout.shape.counters])
    assert len(blob) == layout.shape.head + layout.shape.bitmap + filled + 2 * 16
    assert layout.history_entries(blob) == 2
    rows = layout.unpack([blob, None])
    assert rows[0] == store.slab.rows[store.slab.slots(["u"])][0]
    assert not rows[1].tobytes().strip(b"\0")
    assert layout.pack(rows)[0] == blob


def test_framed_blobs_are_the_same_blobs_in_the_order_of_their_slots() -> None:
    store = Store()
    store.fold([event(T0 + i, item=f"i{i}", user=f"u{u}") for u in range(5) for i in range(u + 1)])
    slots = np.array([3, 0, 4])
    blobs = unframed(store.layout.framed(store.slab.rows, slots))
    assert blobs == store.layout.pack(store.slab.rows, slots)
    assert blobs == [store.blob(f"u{u}") for u in (3, 0, 4)]
    assert not store.layout.framed(store.slab.rows, slots[:0])


def test_a_cut_or_foreign_blob_is_refused_not_misread() -> None:
    store = Store()
    store.fold([event(T0), event(T0 + 1000, item="i2")])
    blob = store.blob()
    for spoilt in (blob[:-1], blob + b"x", blob[:50], blob[:4] + b"\xff" + blob[5:]):
        with pytest.raises(CorruptError, match="not as long as its own head says"):
            store.layout.unpack([spoilt])


def test_a_row_of_another_declaration_is_refused_not_misread() -> None:
    store, other = Store(), Layout(merge(DEFAULT, {"windows": {"2h": "2h"}}))
    store.fold([event(T0)])
    with pytest.raises(
        SchemaMismatchError, match=f"schema {store.layout.schema}, this process reads schema {other.schema}"
    ) as refusal:
        other.unpack([store.blob()])
    assert "`kairos replay --mode rebuild --into NAME --execute`" in str(refusal.value)
    assert "`kairos promote NAME --execute`" in str(refusal.value)


def test_slots_outlive_the_growth_of_the_slab() -> None:
    store = Store()
    for i in range(50):
        store.fold([event(T0, user=f"u{i}")])
    assert len(store.slab) == 50
    assert all(store.view(T0, f"u{i}").totals[0, 0] == 1 for i in range(50))


def test_the_ring_has_a_slot_for_every_bucket() -> None:
    store = Store()
    hop = DEFAULT.windows[1].hop_ms
    start = T0 - T0 % (hop * BUCKETS)
    store.fold([event(start + i * hop) for i in range(BUCKETS)])
    assert store.count(start + 11 * hop, "click", "1h") == BUCKETS
    assert store.count(start + 12 * hop, "click", "1h") == BUCKETS - 1
