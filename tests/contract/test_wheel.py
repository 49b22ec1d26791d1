"""The wheel holds our four packages whole and nothing else, and nobody else installs packages of those names."""

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"schemas", "streams", "model_server", "deploy"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def _names(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if not name.partition("/")[0].endswith(".dist-info")}


def test_the_top_level_names_are_exactly_ours(wheel: zipfile.ZipFile) -> None:
    assert {name.partition("/")[0] for name in _names(wheel)} == OURS


def test_everything_in_our_folders_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *sorted(OURS)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert wanted == _names(wheel)
    assert any(name.startswith("schemas/generated/") for name in wanted)
    assert {"deploy/stack/kafka-jars.sha256", "deploy/py.typed"} <= wanted


def test_no_other_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    assert {owner for name in OURS for owner in owners.get(name, [])} <= {"kairos-push"}


def test_the_wheel_says_that_it_is_private_and_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    said = wheel.read(metadata).decode()
    assert "Classifier: Private :: Do Not Upload" in said
    assert {f"Provides-Extra: {extra}" for extra in ("local", "model", "train", "dev")} <= set(said.splitlines())
    assert "kairos = deploy.cli:main" in wheel.read(metadata.replace("METADATA", "entry_points.txt")).decode()


def test_every_module_of_the_wheel_imports_by_itself(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    modules = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in _names(wheel)
        if name.endswith(".py") and not name.endswith("__main__.py")
    )
    script = (
        "import importlib, sys, deploy\n"
        f"assert deploy.__file__.startswith({str(tmp_path)!r}), deploy.__file__\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", script, *modules]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
