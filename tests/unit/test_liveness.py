"""The liveness rule: what is stuck, for how long it may be, and that the probe itself outlives everything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

from streams.chunks.liveness import Finding, Held, Limits, Probe, Watched


def finding(stuck: bool, limit_s: float = 10.0) -> Finding:
    return Finding("rule", stuck, limit_s, "cause")


def test_a_rule_is_overdue_only_after_it_held_without_a_break() -> None:
    held = Held()
    assert not held.overdue(finding(True), 0.0)
    assert not held.overdue(finding(True), 9.9)
    assert held.overdue(finding(True), 10.0)
    assert not held.overdue(finding(False), 11.0)
    assert not held.overdue(finding(True), 12.0)
    assert not held.overdue(finding(True), 21.9)
    assert held.overdue(finding(True), 22.0)


def test_a_rule_without_patience_is_overdue_at_once() -> None:
    assert Held().overdue(finding(True, limit_s=0.0), 5.0)


def test_a_forgotten_rule_starts_again() -> None:
    held = Held()
    held.overdue(finding(True), 0.0)
    held.forget("rule")
    assert not held.overdue(finding(True), 10.0)


class Fakes(Watched):
    """Watched whose findings are given."""

    def __init__(self, *looks: list[Finding] | Exception) -> None:
        super().__init__(cast("Any", None), (), lambda *_: 0, str, Limits(progress_s=0.0), cast("Any", None))
        self.looks = list(looks)

    def findings(self, now_s: float) -> Iterator[Finding]:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, Exception):
            raise look
        yield from look


def ended_by(watched: Watched) -> tuple[str, str]:
    """Cause and remedy with which a probe ends the process."""
    said: list[tuple[str, str]] = []
    done = threading.Event()

    def end(cause: str, remedy: str) -> None:
        said.append((cause, remedy))
        done.set()

    probe = Probe([watched], end=end, interval_s=0.01)
    probe.start()
    assert done.wait(5)
    probe.stop()
    probe.join(5)
    assert not probe.is_alive()
    return said[0]


def test_the_probe_ends_the_process_with_cause_and_remedy() -> None:
    stuck = Finding("fetch", True, 0.0, "the fetch task has ended", "start again")
    assert ended_by(Fakes([finding(False)], [stuck])) == ("the fetch task has ended", "start again")


def test_the_probe_survives_what_changes_under_its_eyes(caplog: Any) -> None:
    stuck = Finding("fetch", True, 0.0, "stuck")
    assert ended_by(Fakes(AttributeError("gone"), KeyError("tp"), [stuck]))[0] == "stuck"
    assert "cannot judge" in caplog.text


def test_progress_is_the_best_of_fence_and_position() -> None:
    watched = Fakes([])
    tp = cast("Any", ("t", 0))
    assert watched._moved(tp, fence=5, position=10)
    assert not watched._moved(tp, fence=5, position=10)
    assert not watched._moved(tp, fence=3, position=8), "a rewind is no progress, and no step back either"
    assert watched._moved(tp, fence=5, position=11)
    assert watched._moved(tp, fence=6, position=8)
