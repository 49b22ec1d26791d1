"""The liveness rule of the model worker: what is stuck, after how many looks, and what is not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable

from model_server.liveness import IDLE_LOOKS, LOOP_LOOKS, SCORING_LOOKS, Probe, Seen, Standstill

AT_WORK = Seen(turns=0, looks=0, held=0, settled=0, scoring_since_ms=None)


def judged(looks: Iterable[Seen | None]) -> list[str]:
    standstill = Standstill()
    return [cause for seen in looks if (cause := standstill.judge(seen))]


def still(count: int, **what: int) -> list[Seen]:
    """Looks at a loop that turns and a queue that is looked at, but for what is said."""
    return [AT_WORK._replace(**{"turns": n, "looks": n, "settled": n, **what}) for n in range(count)]


def test_a_worker_that_moves_is_never_stuck() -> None:
    assert judged(still(500)) == []
    assert judged(still(500, held=7)) == []


def test_users_that_are_held_and_never_settled_end_it() -> None:
    assert judged(still(IDLE_LOOKS, held=7, settled=3)) == []
    (cause,) = judged(still(IDLE_LOOKS + 1, held=7, settled=3))
    assert cause == "it holds 7 users and has settled none for 60 s"


def test_a_queue_that_nobody_looks_at_ends_it_unless_users_are_held() -> None:
    assert "queue" in judged(still(IDLE_LOOKS + 1, looks=3))[0]
    assert judged(still(500, looks=3, held=7)) == []


def test_a_forward_pass_has_longer_and_a_blocked_loop_less_time() -> None:
    scoring = still(SCORING_LOOKS + 1, held=7, settled=3, scoring_since_ms=5)
    assert judged(scoring[:-1]) == []
    assert "forward pass" in judged(scoring)[0]
    assert "event loop" in judged(still(LOOP_LOOKS + 1, turns=3))[0]


def test_what_waits_for_something_that_is_away_begins_anew() -> None:
    half = still(IDLE_LOOKS, held=7, settled=3)
    assert judged([*half, None, *half]) == []


async def test_the_probe_ends_a_worker_whose_loop_turns_and_which_stands_still() -> None:
    ended, causes = threading.Event(), list[str]()

    def end(cause: str) -> None:
        causes.append(cause)
        ended.set()

    turns = list[int]()

    def look(turned: int) -> Seen:
        turns.append(turned)
        return AT_WORK._replace(turns=turned, held=2)

    probe = Probe(look, end=end, interval_s=0.01)
    probe.start()
    assert await asyncio.to_thread(ended.wait, 20)
    probe.stop()
    assert "holds 2 users" in causes[0]
    assert turns[-1] > 0
