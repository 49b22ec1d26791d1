"""The demo's book-keeping: nothing lost or doubled goes unseen, waits are timed honestly, the screen tells it."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from deploy.demo.board import Board, spark
from deploy.demo.gateway import Gateway, percentile
from deploy.demo.ledger import Balance, Ledger
from deploy.demo.report import Report
from deploy.demo.screen import Screen
from deploy.demo.sources import WEEK_MS, LogSource, ShopSource
from deploy.demo.tables import glob
from schemas import decisions, recommendations
from schemas.decisions import Decision, Step
from schemas.recommendations import Offer, Recipient, Recommendation, Scores, Versions
from schemas.topics import Topics
from streams.features.declaration import DEFAULT
from streams.logs.logs import Cleaning, Log, LogEvent

NOW_MS = 1_775_000_000_000
TOPICS = Topics("demo.")
VERSIONS = Versions(model="m1", features="1", policy="1")


def event(kind: str, user: str = "ann", item: str = "a", ts_ms: int = NOW_MS) -> LogEvent:
    value = orjson.dumps({"user_id": user, "item_id": item, "kind": kind, "ts_ms": ts_ms})
    return LogEvent(ts_ms, "clicks", user.encode(), value)


def candidate(dedup_key: str, user: str = "ann", status: str = "new") -> bytes:
    message = recommendations.encode(
        Recommendation(
            dedup_key=dedup_key,
            status=status,  # type: ignore[arg-type]
            mode="live",
            run_id="",
            decision_id="d",
            decided_ms=NOW_MS,
            user=Recipient(id=user),
            item=Offer(id="a", title="Drizzle 折叠雨伞"),
            collapse_key="c",
            relevance=0.5,
            expires_ms=NOW_MS + 1,
            scores=Scores(final=0.4),
            versions=VERSIONS,
            reasons=["hour_of_day"],
        ),
        "/kairos/test",
    )
    return message.value or b""


def decision(outcome: str, rule: str, user: str = "ann") -> bytes:
    steps = [Step("consent", "opted_out", True), Step("timing", rule, outcome == "sent")]
    message = decisions.encode(
        Decision(
            decision_id="d",
            user=user,
            ts_ms=NOW_MS,
            outcome=outcome,  # type: ignore[arg-type]
            steps=steps,
            versions=VERSIONS,
            mode="live",
            run_id="",
        ),
        "/kairos/test",
    )
    return message.value or b""


def test_a_balance_tells_lost_from_doubled_and_neither_hides_the_other() -> None:
    expected = Counter({("ann", "click"): 3, ("ann", "browse"): 2, ("bob", "click"): 1})
    assert Balance.between(expected, Counter(expected)) == Balance(rows=2, events=6, lost=0, doubled=0)
    stored = Counter({("ann", "click"): 4, ("ann", "browse"): 1, ("eve", "click"): 5})
    assert Balance.between(expected, stored) == Balance(rows=3, events=6, lost=2, doubled=6)


def test_the_ledger_counts_items_only_where_item_rows_do() -> None:
    ledger = Ledger(DEFAULT)
    for kind in ("click", "return", "opened", "purchase"):
        ledger.acknowledged(event(kind))
    assert ledger.users.total() == 4
    assert ledger.items == {("a", "click"): 1, ("a", "purchase"): 1}


def test_a_wait_begins_with_the_first_unanswered_event_and_its_due_time_is_the_earliest() -> None:
    ledger = Ledger(DEFAULT)
    browse_ms, cart_ms = DEFAULT.delays_ms[2], DEFAULT.delays_ms[0]
    ledger.acknowledged_live(event("browse"), 1_000.0)
    ledger.acknowledged_live(event("add-to-cart"), 1_100.0)
    assert ledger.answered("ann", 999.0) is None
    waited = ledger.answered("ann", 1_200.0)
    assert waited is not None
    assert (waited.since_ms, waited.due_ms) == (1_000.0, min(1_000.0 + browse_ms, 1_100.0 + cart_ms))
    assert ledger.answered("ann", 1_300.0) is None


def test_feedback_that_asks_for_no_rescore_starts_no_wait() -> None:
    ledger = Ledger(DEFAULT)
    for kind in ("sent", "delivered", "dismissed", "converted"):
        ledger.acknowledged_live(event(kind), 1_000.0)
    assert ledger.waiting == {}
    assert ledger.events_per_s(1_500.0, span_ms=1_000) == 4.0
    assert ledger.events_per_s(2_500.0, span_ms=1_000) == 0.0


def test_the_gateway_hands_on_a_candidate_once_and_times_it() -> None:
    handed: list[tuple[str, str, int]] = []
    gateway = Gateway(TOPICS, Ledger(DEFAULT), lambda *push: handed.append(push))
    gateway.ledger.acknowledged_live(event("click"), NOW_MS)
    gateway.take(TOPICS.recommendations, candidate("k1"), NOW_MS + 200)
    gateway.take(TOPICS.recommendations, candidate("k1"), NOW_MS + 300)
    gateway.take(TOPICS.recommendations, candidate("k2", status="retracted"), NOW_MS + 300)
    gateway.take(TOPICS.decisions, decision("sent", "score"), NOW_MS + 300)
    assert handed == [("ann", "a", NOW_MS + 200)]
    assert (gateway.candidates, gateway.repeated, gateway.rescored) == (1, 1, 1)
    assert gateway.waits_ms == [200]
    assert gateway.beyond_ms == [200 - DEFAULT.delays_ms[1]]
    assert gateway.pushes[0].title == "Drizzle 折叠雨伞"


def test_silence_is_counted_under_the_rule_that_failed_and_ends_the_wait() -> None:
    gateway = Gateway(TOPICS, Ledger(DEFAULT), lambda *_: None)
    gateway.ledger.acknowledged_live(event("click"), NOW_MS)
    gateway.take(TOPICS.decisions, decision("held", "quiet_hours"), NOW_MS + 200)
    gateway.take(TOPICS.decisions, decision("refused", "daily_cap", "bob"), NOW_MS + 200)
    assert gateway.silence == {"quiet_hours": 1, "daily_cap": 1}
    assert gateway.ledger.waiting == {}
    assert gateway.waits_ms == []


def a_log(events: int, step_ms: int) -> Log:
    made = [event("click", f"u{n % 5}", f"i{n}", 1_450_000_000_000 + n * step_ms) for n in range(events)]
    return Log("test", "America/Sao_Paulo", made, {"i0": {"title": "One"}}, Cleaning(events, events, {}))


def test_a_log_is_moved_up_by_whole_weeks_and_its_newest_part_played_now() -> None:
    log = a_log(300, 3_600_000)
    source = LogSource(log, events_per_s=10, live_s=5, seed=1, now_ms=NOW_MS)
    past = source.past()
    shifts = {moved.ts_ms - was.ts_ms for moved, was in zip(past, log.events, strict=False)}
    assert len(shifts) == 1
    assert shifts.pop() % WEEK_MS == 0
    assert NOW_MS - WEEK_MS < past[-1].ts_ms <= NOW_MS
    assert all(orjson.loads(e.value)["ts_ms"] == e.ts_ms for e in past)
    source.go_live(NOW_MS)
    live = [e for tick in range(50) for e in source.due(NOW_MS + tick * 100)]
    assert [e.key for e in live] == [e.key for e in log.events[len(past) : len(past) + len(live)]]
    assert len(live) == pytest.approx(50, abs=2)
    assert all(NOW_MS <= orjson.loads(e.value)["ts_ms"] == e.ts_ms for e in live)


def test_a_logs_pushes_come_back_as_feedback() -> None:
    source = LogSource(a_log(30, 1), events_per_s=10, live_s=1, seed=1, now_ms=NOW_MS)
    source.push("u1", "i1", NOW_MS)
    kinds = [orjson.loads(e.value)["kind"] for e in source.due(NOW_MS + 1) if e.stream == "feedback"]
    assert kinds[:2] == ["sent", "delivered"]
    assert source.settings["KAIROS_ZONE"] == "America/Sao_Paulo"


def test_the_shop_knows_its_people_and_goods_by_name() -> None:
    source = ShopSource(users=50, items=24, events=500, events_per_s=50, seed=1, now_ms=NOW_MS)
    assert source.past()[-1].ts_ms < NOW_MS
    assert " h, " in source.who("u000001", NOW_MS)
    assert source.who("nobody", NOW_MS) == "nobody"
    assert source.due(NOW_MS + 1_000) == []
    source.go_live(NOW_MS)
    assert source.due(NOW_MS + 1_000) != []
    assert len(list(source.catalogue())) == 24


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def told(width: int = 100) -> tuple[Screen, Clock, io.StringIO]:
    clock, text = Clock(), io.StringIO()
    return Screen(Console(file=text, width=width, highlight=False), clock), clock, text


def test_without_a_terminal_a_step_is_told_in_lines_with_rate_and_time_left() -> None:
    screen, clock, text = told()
    with screen.step("Folding") as step:
        for n in range(11):
            step.progress(n * 100, 1_000)
            clock.now_s += 0.5
        step.says("Folded")
    lines = text.getvalue().splitlines()
    assert lines[0] == "  … Folding"
    assert "40%" in lines[1]
    assert "200/s" in lines[1]
    assert "3 s left" in lines[1]
    assert lines[-1].startswith("  ✔ Folded")
    assert lines[-1].endswith("5.5 s")
    assert "\x1b" not in text.getvalue()


def test_a_step_that_fails_is_crossed_out_and_the_error_goes_on() -> None:
    screen, _, text = told()
    with pytest.raises(ValueError, match="invalid literal"), screen.step("Trying"):
        int("no")
    assert "✘ Trying" in text.getvalue()


def test_the_board_fits_a_hundred_columns_and_says_why_people_were_left_in_peace() -> None:
    board = Board(total_s=40, elapsed_s=10, events=900, events_per_s=90.0, rates=[1.0, 2.0, 4.0])
    board.waits_ms, board.silence, board.candidates = [100.0] * 99 + [900.0], [("quiet_hours", 7), ("odd_rule", 1)], 5
    text = io.StringIO()
    Console(file=text, width=100).print(board.draw())
    drawn = text.getvalue()
    for part in ("is asleep", "odd rule", "100 ms", "900 ms", "90/s", "▃▅█"):
        assert part in drawn
    assert {len(line) for line in drawn.splitlines()} == {100}
    assert "is asleep 7" in board.line()
    assert Board(total_s=1).draw()


def test_percentiles_and_sparks_of_nothing_are_nothing() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(100)], 0.99) == 99.0
    assert spark([]) == ""


@pytest.mark.parametrize(
    ("lost", "doubled", "candidates", "holds"), [(0, 0, 1, True), (1, 0, 1, False), (0, 1, 1, False), (0, 0, 0, False)]
)
def test_a_report_holds_only_without_loss_without_doubles_and_with_candidates(
    lost: int, doubled: int, candidates: int, holds: bool, tmp_path: Path
) -> None:
    report = Report(users=Balance(1, 9, lost, 0), items=Balance(1, 9, 0, doubled), candidates=candidates, p99_ms=12.34)
    assert report.holds is holds
    report.write(tmp_path / "build" / "demo.json")
    written = orjson.loads((tmp_path / "build" / "demo.json").read_bytes())
    wanted = ["events", "candidates", "lost", "doubled", "event_to_candidate_p99_ms", "events_per_s", "users_rescored"]
    assert set(wanted) <= written.keys()
    assert (written["lost"], written["doubled"], written["event_to_candidate_p99_ms"]) == (lost, doubled, 12.3)
    assert all(figure["holds"] for figure in written["figures"]) is holds


def test_a_report_of_rows_that_were_never_compared_does_not_hold() -> None:
    assert not Report(candidates=5).holds


def test_a_namespace_with_pattern_letters_is_matched_literally() -> None:
    assert glob(b"{kairos:a*[b]?}:u:") == rb"{kairos:a\*\[b\]\?}:u:"
