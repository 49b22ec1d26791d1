"""`kairos` finds every command it lists, and says in a sentence what is wrong with what was typed."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy import cli, extras
from deploy.stack import StackError


def _version_raises(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    def fail(_: list[str]) -> int:
        raise problem

    monkeypatch.setattr(cli, "show_version", fail)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_listed_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main([name, "--help"])
    except SystemExit as end:
        status = int(end.code or 0)
    assert status == 0
    assert f"kairos {name}" in "".join(capsys.readouterr())


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in cli.COMMANDS)


def test_without_a_command_the_help_is_shown_and_the_status_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 2
    assert "kairos COMMAND" in capsys.readouterr().out


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["wokrer"]) == 2
    assert capsys.readouterr().err == "kairos has no command 'wokrer'. Did you mean 'worker'? See kairos --help.\n"


def test_a_missing_extra_names_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _version_raises(monkeypatch, ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    assert cli.main(["version"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("The package torch is missing (extra 'model'). Type:\n  pip install ")
    assert "'torch>=" in said


@pytest.mark.parametrize("command", ["model", "train"])
def test_a_service_does_not_start_without_its_extra(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "scipy" else module)
    assert cli.main([command, "--help"]) == 1
    assert capsys.readouterr().err.startswith("The package scipy is missing (extra 'model'). Type:\n  pip install ")


def test_a_missing_module_that_no_extra_brings_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    _version_raises(monkeypatch, ModuleNotFoundError("No module named 'streams.gone'", name="streams.gone"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["version"])


def test_a_variable_that_no_command_reads_is_named_and_the_command_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIROS_REDSI", "redis://app:hush@cache:6379")
    monkeypatch.setenv("KAIROS_QUIET_HOURS", "22-7")
    assert cli.main(["version"]) == 0
    said = capsys.readouterr().err
    assert said == "KAIROS_REDSI is no setting of Kairos and changes nothing. Did you mean KAIROS_REDIS?\n"


@pytest.mark.parametrize("command", ["worker", "model"])
def test_a_service_that_does_not_start_names_unknown_variables_too(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIROS_KAFKA", "nowhere")
    monkeypatch.setenv("KAIROS_SESION_TIMEOUT_S", "6")
    assert cli.main([command]) == 78
    said = capsys.readouterr().err
    assert "KAIROS_KAFKA=nowhere" in said
    assert said.count("KAIROS_SESION_TIMEOUT_S is no setting of Kairos") == 1
    assert "Did you mean KAIROS_SESSION_TIMEOUT_S?" in said


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _version_raises(monkeypatch, KeyboardInterrupt())
    assert cli.main(["version"]) == 130


def test_an_error_of_ours_is_a_sentence_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAIROS_TRACEBACK", raising=False)
    _version_raises(monkeypatch, StackError("Port 1 is taken: name another."))
    assert cli.main(["version"]) == 1
    assert capsys.readouterr().err == "Port 1 is taken: name another.\n"


@pytest.mark.parametrize(
    "line", ["lag", "replay", "backfill x --into y", "promote x", "inspect u1", "why u1", "erase u1", "models list"]
)
def test_programs_are_told_of_wrong_settings_by_one_object(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIROS_LOG", "loud")
    assert cli.main([*line.split(), "--json"]) == 78
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": err.removesuffix("\n"), "status": 78}
    assert "KAIROS_LOG=loud" in err


def test_a_folder_that_cannot_be_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("KAIROS_TRACEBACK", raising=False)
    (tmp_path / "file").touch()
    for command in ("up", "demo"):
        assert cli.main([command, "--folder", str(tmp_path / "file" / "below")]) == 1
        assert capsys.readouterr().err == f"{tmp_path / 'file' / 'below'}: Not a directory.\n"


@pytest.mark.parametrize(
    "command", [["worker"], ["model"], ["topics", "check"], ["inspect", "u1"], ["train", "--out", "x"]]
)
@pytest.mark.parametrize(
    "text", [b"kinds = [", b"\xff", b"[kinds.click]\nfoo = 1", b"[windows]\nx = '5 parsecs'", None]
)
def test_a_features_file_that_is_wrong_is_a_wrong_setting(
    command: list[str],
    text: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "features.toml"
    file.mkdir() if text is None else file.write_bytes(text)
    monkeypatch.setenv("KAIROS_FEATURES", str(file))
    assert cli.main(command) == 78
    assert capsys.readouterr().err.startswith(f"The features file {file} (KAIROS_FEATURES) ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("inspect u1 --newest -1", "-1 is no whole number from 1 up"),
        ("why u1 -n few", "few is no whole number from 1 up"),
        ("train --until yesterday", "yesterday is no time like 2026-01-31"),
        ("capacity --users 1e6", "1e6 is no whole number from 1 up"),
        ("analyze clicks --newest 0", "0 is no whole number from 1 up"),
        ("up --kafka-port 80000", "80000 is no port"),
        ("demo --users -1", "-1 is no whole number from 1 up"),
        ("demo --rate 0", "0 is no number above 0"),
        ("demo --seconds nan", "nan is no number above 0"),
    ],
)
def test_a_number_or_time_that_cannot_be_is_refused_with_a_sentence(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_error_of_others_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _version_raises(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["version"])


def test_a_training_knocks_at_kafka_before_it_loads_what_takes_seconds(tmp_path: Path) -> None:
    script = (
        "import sys; from deploy import cli; status = cli.main(['train', '--out', sys.argv[1]]);"
        "sys.exit(2 if 'torch' in sys.modules else status)"
    )
    env = {**os.environ, "KAIROS_KAFKA": "127.0.0.1:1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    said = "Nothing listens where Kafka at 127.0.0.1:1 should be: start it, or set KAIROS_KAFKA to where it is.\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_help_needs_no_library() -> None:
    script = (
        "import sys; from deploy import cli; cli.main(['--help']);"
        "heavy = {'faust', 'torch', 'numpy', 'redis', 'aiokafka', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = "import sys; from deploy import cli; sys.exit(cli.main(['version']))"
    ended = subprocess.run(
        f'{sys.executable} -c "{script}" | true', shell=True, capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""


@pytest.mark.parametrize("extra", sorted(set(extras.EXTRA_OF.values())))
def test_the_line_to_type_names_the_packages_of_the_extra(extra: str) -> None:
    line = extras.install_line(extra)
    declared = {
        wanted.name
        for wanted in map(Requirement, importlib.metadata.requires(extras.DISTRIBUTION) or [])
        if wanted.marker and wanted.marker.evaluate({"extra": extra}) and not wanted.marker.evaluate({"extra": ""})
    } - {extras.DISTRIBUTION}
    assert declared
    assert all(f"'{name}" in line for name in declared)


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("worker", ["torch", "transformers", "safetensors", "pandas", "jgo"]),
        ("topics", ["torch", "transformers", "safetensors", "pandas", "jgo"]),
        ("inspect", ["torch", "transformers", "safetensors", "pandas", "jgo"]),
        ("model", ["faust", "mode", "pandas", "lightgbm", "jgo"]),
        ("why", ["faust", "mode", "torch", "transformers", "pandas", "jgo"]),
    ],
)
def test_an_image_starts_without_the_libraries_of_the_other(command: str, absent: list[str]) -> None:
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        f"from deploy import cli; sys.exit(cli.main([{command!r}, '--help']))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
