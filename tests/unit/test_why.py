"""What `kairos why` prints of grades: the candidate's in words and chances, the rule's in words."""

import io
import re
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from deploy import cli
from model_server import why
from model_server.decision_log import DecisionRecord
from model_server.model_folder import make_current
from model_server.why import readable
from schemas.decisions import Chosen, Decision, Step
from schemas.recommendations import Scores, Versions


def shown(chosen: Chosen, *steps: Step) -> str:
    decision = Decision(
        decision_id="d", user="u", ts_ms=1_800_000_000_000, outcome="refused", steps=list(steps), chosen=[chosen],
        versions=Versions("m", "7", "p"), mode="live", run_id="r",
    )  # fmt: skip
    text = io.StringIO()
    Console(file=text, width=160, highlight=False).print(why.shown(DecisionRecord(1, b"", decision)))
    return text.getvalue()


def test_a_candidate_is_shown_with_its_grade_and_what_it_was_cut_from() -> None:
    scores = Scores(0.3, p_rec=0.25, p_best=0.015)
    step = Step("score", "grade", passed=False, value=0.0, threshold=1.0)
    text = shown(Chosen("i1", scores=scores, grade="not_recommended"), step)
    assert "best candidate i1  final 0.3  Not Recommended (acts 0.25, buys or the like 0.015)" in text
    assert "The model does not recommend the candidate." in text
    assert text.rstrip().splitlines()[-2].split() == ["✗", "score", "grade", "Not", "Recommended", "Recommended"]


def test_what_the_score_is_owed_to_stands_below_it_the_greatest_first() -> None:
    owed = {"base": -4.5, "prices": 0.004, "scene and time": -0.31, "items by themselves": 1.2}
    text = shown(Chosen("i1", scores=Scores(0.3), because=owed))
    assert "  because items by themselves +1.20, scene and time -0.31, base -4.50\n" in text
    assert "because" not in shown(Chosen("i1", scores=Scores(0.3)))


def test_decisions_of_before_have_no_grade() -> None:
    assert "best candidate i1  final 0.3\n" in shown(Chosen("i1", scores=Scores(0.3)))


def test_numbers_of_rules_are_in_the_unit_people_think_in() -> None:
    assert [readable("grade", code) for code in (0, 1, 2)] == ["Not Recommended", "Recommended", "Best Match"]
    assert readable("minimum_gap", 90) == "0:01:30"
    assert readable("quiet_hours", 1_350) == "22:30"
    assert (readable("opted_out", 0), readable("score", 0.123456)) == ("never", "0.1235")
    assert (readable("score", None), readable("stage", "word")) == ("never", "word")


@pytest.mark.parametrize("options", [["--item", "i1"], ["--now", "--at", "1h"]])
def test_options_that_do_not_go_together_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["why", "u1", *options])
    assert ended.value.code == 2
    assert "--now" in capsys.readouterr().err.splitlines()[-1]


def test_without_redis_or_a_model_that_can_score_a_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIROS_REDIS", "redis://127.0.0.1:1/0")
    assert cli.main(["why", "u1", "--now"]) == 1
    assert re.match(
        r"redis://127\.0\.0\.1:1 does not answer \(.+\): start it, or set KAIROS_REDIS", capsys.readouterr().err
    )
    make_current(tmp_path, "none-such", "train", 0)
    monkeypatch.setenv("KAIROS_MODEL_DIR", str(tmp_path))
    assert cli.main(["why", "u1", "--now", "--json"]) == 1
    told = orjson.loads(capsys.readouterr().out)
    assert (told["user"], told["items"], told["status"]) == ("u1", [], 1)
    assert told["error"].startswith("The model in force cannot score here: ")
