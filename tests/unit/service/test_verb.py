"""How verbs tell people and programs."""

import orjson
import pytest

from streams.service.verb import BAD, GOOD, Telling, parser
from streams.settings import Tools


def test_a_program_gets_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Telling(as_json=True)
    tell.plan({"records": 3}, "three records", execute=False)
    with tell.progress("reading", 3) as bar:
        bar.at(3)
    tell.complain("It [b]broke[/b].")

    assert tell.end(BAD) == BAD

    out, err = capsys.readouterr()
    assert orjson.loads(out) == {"plan": {"records": 3}, "executed": False, "error": "It [b]broke[/b].", "status": 1}
    assert err == "It [b]broke[/b].\n"


def test_a_person_is_told_that_a_plan_is_only_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Telling(as_json=False)
    tell.plan({"records": 3}, "three records", execute=False)

    assert tell.end(GOOD) == GOOD
    out = capsys.readouterr().out
    assert out.startswith("three records\n")
    assert "--execute" in out


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 5.0, 5.0, 11.0, 11.0, 12.0, 12.0])
    monkeypatch.setattr("streams.service.verb.time.monotonic", lambda: next(clock, 12.0))
    with Telling(as_json=False).progress("reading", 1100) as bar:
        bar.at(100)
        bar.at(550)
        bar.at(600)

    assert capsys.readouterr().err == "reading: 550 of 1,100, 50 records/s, 11 s left\n"


def test_what_was_done_before_is_neither_speed_nor_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("streams.service.verb.time.monotonic", lambda: now_s)
    with Telling(as_json=False).progress("reading", 10_000, begun=4_000) as bar:
        now_s = 10.0
        bar.at(4_000)
        now_s = 20.0
        bar.at(5_000)

    assert capsys.readouterr().err == (
        "reading: 4,000 of 10,000, 0 records/s\nreading: 5,000 of 10,000, 50 records/s, 1 min 40 s left\n"
    )


def test_only_a_verb_that_acts_can_be_told_to() -> None:
    assert parser("erase", "…", Tools, acts=True).parse_args(["--execute", "--json"]).execute
    with pytest.raises(SystemExit):
        parser("lag", "…", Tools, acts=False).parse_args(["--execute"])
