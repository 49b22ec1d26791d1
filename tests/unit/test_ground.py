"""What a newcomer types, what CI runs and what is installed agree with each other."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def _pins(path: Path) -> dict[str, set[str]]:
    """Return the locked versions by package."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = "make check test"
    assert command in (ROOT / "README.md").read_text()
    script = ROOT / ".ci" / "run"
    assert script.read_text().rstrip().endswith(f"exec {command}")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    named = set(re.findall(r"(?:`|^)make ((?:[a-z-]+ ?)+)", (ROOT / page).read_text(), re.MULTILINE))
    assert named
    assert {target for targets in named for target in targets.split()} <= TARGETS


def test_every_target_that_runs_our_code_sets_up_first() -> None:
    for target in ("setup", "check", "test", "bench", "demo", "lock"):
        assert re.search(rf"^{target}: .*\$\(STAMP\)", MAKEFILE, re.MULTILINE), target


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_a_hash_for_every_package_and_names_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-{1,2}(i|f|index|extra-index|find-links|trusted-host)\b", text, re.MULTILINE)
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


def test_what_an_image_installs_is_what_the_tests_ran_on() -> None:
    everything = _pins(ROOT / "requirements" / "all.txt")
    for name in ("stream.txt", "model.txt", "uv.txt"):
        for package, versions in _pins(ROOT / "requirements" / name).items():
            assert package == "colorama" or versions <= everything[package], package
    assert "torch" in _pins(ROOT / "requirements" / "model.txt")
    assert "torch" not in _pins(ROOT / "requirements" / "stream.txt")


def test_the_lock_holds_what_the_project_asks_for() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    asked = {"": PROJECT["project"]["dependencies"], **extras}
    for extra, lines in asked.items():
        names = {re.split(r"[\[<>=~; ]", line)[0].lower() for line in lines} - {"kairos-push"}
        # What reads titles is large, and has a lock of its own.
        lock = "text.txt" if extra == "text" else "all.txt"
        assert names <= set(_pins(ROOT / "requirements" / lock)), extra


def test_libraries_whose_inside_we_use_are_pinned_exactly() -> None:
    exact = {line.partition("==")[0] for line in PROJECT["project"]["dependencies"] if "==" in line}
    assert exact == {"aiokafka", "faust-streaming", "mode-streaming"}


def test_types_are_strict_for_every_module_of_ours() -> None:
    assert PROJECT["tool"]["mypy"]["strict"] is True
    excluded = {name for rule in PROJECT["tool"]["mypy"]["overrides"] for name in rule["module"]}
    assert not [name for name in excluded if name.partition(".")[0] in {"schemas", "streams", "model_server", "deploy"}]
    assert "exclude" not in PROJECT["tool"]["mypy"]


def test_the_finder_of_python_takes_a_supported_one_and_refuses_others(tmp_path: Path) -> None:
    def find(path: str, **env: str) -> "subprocess.CompletedProcess[str]":
        command: list[str | Path] = ["/bin/bash", ROOT / ".ci" / "find-python"]
        return subprocess.run(command, env={"PATH": path, **env}, capture_output=True, text=True, check=False)

    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = find(f"{tmp_path}:{tmp_path}")
    assert refused.returncode == 1
    assert "No Python 3.11, 3.12 or 3.13 was found" in refused.stderr
    good = tmp_path / "python3.12"
    good.write_text("#!/bin/sh\nexit 0\n")
    good.chmod(0o755)
    assert find(str(tmp_path)).stdout == "python3.12\n"
    assert find(str(tmp_path), PYTHON=str(good)).stdout == f"{good}\n"
