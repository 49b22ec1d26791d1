"""Pages of a process that show a user are found, and a run in which nobody could read them proves nothing."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client.exposition import generate_latest

from streams.metrics import registry
from tests.faults.pages import PATHS, Pages
from tests.faults.verdict import Verdict


def judged(**bodies: str) -> tuple[Pages, Verdict]:
    pages, verdict = Pages(cast("Any", None)), Verdict()
    for path in PATHS:
        pages.look_at("worker0", path, bodies.get(path[1:], "{}"))
    pages.judge(verdict)
    return pages, verdict


def test_a_user_on_a_page_is_told_with_the_line() -> None:
    pages, verdict = judged(metrics='kairos_ready 1.0\nkairos_rows{user="u12"} 1.0\n')
    assert pages.shown == {("worker0", "/metrics"): 'kairos_rows{user="u12"} 1.0'}
    assert len(verdict.complaints) == 1


def test_what_processes_do_show_is_no_user() -> None:
    assert (
        judged(metrics=generate_latest(registry()).decode(), ready='{"faults.events.clicks.v1:2": "u"}')[1].complaints
        == []
    )


def test_a_page_that_was_never_served_is_told() -> None:
    _, verdict = judged(ready="")
    assert verdict.complaints == ["1 pages that nobody could read\n    /ready"]
