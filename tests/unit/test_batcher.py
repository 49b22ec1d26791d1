"""Which users are scored together, and when they stop waiting for company."""

from hypothesis import given
from hypothesis import strategies as st

from model_server.batcher import Batch, Batcher, BatchLimits, Waiting
from model_server.queue import Lease

T = 1_800_000_000_000
LIMITS = BatchLimits(users=4, tokens=400, delay_ms=5, late_ms=100, lengths=(50, 100, 200), padding=0.10)


def waiting(
    name: str, tokens: int = 40, *, deadline_ms: int = T, priority: int = 1, since_ms: int = T
) -> Waiting[None]:
    return Waiting(Lease(0, name.encode(), deadline_ms * 4 + priority, 0), tokens, since_ms, None)


def batcher(*users: Waiting[None], limits: BatchLimits = LIMITS) -> Batcher[None]:
    made: Batcher[None] = Batcher(limits)
    for user in users:
        made.add(user)
    return made


def names(batch: Batch[None] | None) -> list[str]:
    return [] if batch is None else [user.lease.user.decode() for user in batch.users]


def test_a_lone_user_waits_for_company_until_the_delay_has_passed() -> None:
    waits = batcher(waiting("a"))
    assert waits.take(T + 4) is None
    assert waits.wake_ms() == T + 5
    batch = waits.take(T + 5)
    assert batch is not None
    assert (names(batch), batch.reason, len(waits)) == (["a"], "delay", 0)


def test_a_full_bucket_leaves_at_once_with_the_earliest_deadlines() -> None:
    batch = batcher(*[waiting(f"u{i}", deadline_ms=T - i) for i in range(6)]).take(T)
    assert batch is not None
    assert (names(batch), batch.reason) == (["u5", "u4", "u3", "u2"], "full")


def test_a_budget_of_tokens_completes_a_batch_and_bounds_it() -> None:
    waits = batcher(*[waiting(f"u{i}", 150, deadline_ms=T + i) for i in range(3)])
    batch = waits.take(T)
    assert batch is not None
    assert (names(batch), batch.reason, len(waits)) == (["u0", "u1"], "tokens", 1)


def test_a_user_above_the_budget_goes_alone_and_never_blocks() -> None:
    waits = batcher(waiting("giant", 5_000), waiting("small", deadline_ms=T + 1))
    assert names(waits.take(T)) == ["giant"]
    assert names(waits.take(T + 5)) == ["small"]


def test_an_overdue_user_does_not_wait_for_company() -> None:
    batch = batcher(waiting("a", deadline_ms=T - 100)).take(T)
    assert batch is not None
    assert batch.reason == "deadline"


def test_the_live_go_before_an_older_backfill() -> None:
    waits = batcher(
        *[waiting(f"b{i}", deadline_ms=T - 60_000 + i, priority=3) for i in range(4)],
        waiting("purchase", deadline_ms=T - 1, priority=0),
    )
    assert names(waits.take(T)) == ["purchase", "b0", "b1", "b2"]


def test_other_lengths_join_only_while_padding_stays_small() -> None:
    limits = BatchLimits(users=4, tokens=4_000, delay_ms=5, lengths=(50, 100, 200), padding=0.10)
    waits = batcher(waiting("a", 110), waiting("b", 98), waiting("c", 20, deadline_ms=T + 1), limits=limits)
    batch = waits.take(T + 5)
    assert batch is not None
    assert sorted(names(batch)) == ["a", "b"]
    assert 1 - batch.tokens / batch.padded_tokens <= 0.10
    assert names(waits.take(T + 5)) == ["c"]


def test_behind_its_deadlines_it_fills_batches_with_short_and_long_histories_of_one_ranker() -> None:
    """200 candidates and a history of up to 50: batches that left half full cost a quarter of the users a second."""
    limits = BatchLimits(tokens=16_384)
    late = T - 1_000
    users = [waiting(f"u{i}", tokens=213 if i % 3 else 263, deadline_ms=late) for i in range(64)]
    waits = batcher(*users, limits=limits)
    sizes = [len(batch.users) for _ in range(2) if (batch := waits.take(T)) is not None]
    assert sizes == [32, 32]


def test_draining_lets_nobody_wait() -> None:
    batch = batcher(waiting("a")).take(T, drain=True)
    assert batch is not None
    assert batch.reason == "drain"


def test_those_let_go_are_told_and_gone() -> None:
    waits = batcher(waiting("a"), waiting("b", 150))
    assert sorted(user.lease.user for user in waits.clear()) == [b"a", b"b"]
    assert (len(waits), waits.take(T, drain=True)) == (0, None)


def test_nobody_waiting_is_no_batch() -> None:
    assert (batcher().take(T, drain=True), batcher().wake_ms()) == (None, None)


users = st.builds(
    lambda tokens, late, priority: (tokens, late, priority),
    st.integers(1, 600),
    st.integers(-200, 200),
    st.integers(0, 3),
)


@given(st.lists(users, max_size=40))
def test_every_user_leaves_exactly_once_and_every_batch_keeps_the_limits(
    given_users: list[tuple[int, int, int]],
) -> None:
    waits = batcher(
        *[waiting(f"u{i}", n, deadline_ms=T - late, priority=p) for i, (n, late, p) in enumerate(given_users)]
    )
    left: list[str] = []
    while (batch := waits.take(T, drain=True)) is not None:
        assert len(batch.users) == 1 or batch.padded_tokens <= LIMITS.tokens
        assert 1 <= len(batch.users) <= LIMITS.users
        left += names(batch)
    assert sorted(left) == sorted(f"u{i}" for i in range(len(given_users)))
    assert len(waits) == 0
