"""A command's --help lists the variables that it reads, all of them and no others."""

import re

import pytest

from deploy import cli
from streams.service import settings
from streams.service.settings import Log, SettingsError, Shell
from streams.service.variables import KNOWN
from streams.settings import FoldSettings, GroupSettings, StreamSettings

LINES = {
    "topics": "topics check",
    "train": "train --out x",
    "models": "models list",
    "evaluate": "evaluate",
    "replay": "replay",
    "backfill": "backfill events.csv --into next",
    "dead-letters list": "dead-letters list",
    "dead-letters redrive": "dead-letters redrive",
    "lag": "lag",
    "capacity": "capacity",
    "analyze": "analyze clicks",
    "parity": "parity main next",
    "promote": "promote next",
    "erase": "erase u1",
    "export": "export u1",
    "inspect": "inspect u1",
    "why": "why u1",
}
NONSENSE = "{no such thing}"


def variables(cls: type) -> set[str]:
    return {line.env for line in settings.describe(cls)}


def listed(name: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([*name.split(), "--help"])
    assert not ended.value.code
    return set(re.findall(r"^  (KAIROS_\w+) ", capsys.readouterr().out, re.MULTILINE))


def complained(line: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The variables that a command finds wrong, and stops at."""
    assert cli.main(line.split()) == SettingsError.exit_code
    return set(re.findall(r"^  (KAIROS_\w+)", capsys.readouterr().err, re.MULTILINE))


@pytest.mark.parametrize("name", LINES)
def test_the_help_of_a_command_lists_what_it_reads(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = listed(name, capsys)
    for variable in KNOWN:
        monkeypatch.delenv(variable, raising=False)
    for variable in told:
        monkeypatch.setenv(variable, NONSENSE)
    wrong = complained(LINES[name], capsys)
    assert wrong
    assert wrong <= told
    one = min(wrong)
    for variable in (variable for variable in KNOWN if not variable.endswith("_FILE")):
        monkeypatch.setenv(variable, NONSENSE) if variable not in told else monkeypatch.delenv(variable)
    monkeypatch.setenv(one, NONSENSE)
    assert complained(LINES[name], capsys) == {one}


@pytest.mark.parametrize("name", LINES)
def test_what_a_worker_alone_needs_is_in_no_other_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    workers_alone = variables(StreamSettings) - variables(FoldSettings) - variables(GroupSettings)
    assert workers_alone >= {"KAIROS_FETCH_WAIT_MS", "KAIROS_LIVENESS_S"} | variables(Shell) - variables(Log)
    assert not listed(name, capsys) & workers_alone


def test_the_doctor_judges_what_a_worker_would_read_and_the_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert listed("doctor", capsys) == variables(StreamSettings) | {"KAIROS_MODEL_DIR"}
