"""The house style where a machine can hold it: sizes, names, docstrings, and what may never be committed."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES_OF_A_FILE = 300
MOST_LINES_OF_A_FUNCTION = 40
ROOMS_WITHOUT_A_SUBJECT = {"utils", "util", "common", "core", "helpers", "helper", "base", "types", "services", "misc"}
# Put together here, so that this file passes its own test.
HOSTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "repo1.maven" + ".org",
    "repo.maven" + ".apache.org",
    "npmjs" + ".org",
]
PLACES = ["/" + "root/", "/" + "work/", "/home" + "/"]


def _listed(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


SOURCES = sorted(path.relative_to(ROOT) for path in _listed("*.py"))
PRODUCT = [path for path in SOURCES if path.parts[0] != "tests"]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_fits_in_the_head(path: Path) -> None:
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("path", PRODUCT, ids=str)
def test_a_module_opens_with_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert docstring
    assert len(docstring.splitlines()[0]) > 20


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_name_says_what_is_inside(path: Path) -> None:
    assert not ROOMS_WITHOUT_A_SUBJECT & {part.removesuffix(".py") for part in path.parts}


def test_nothing_committed_names_a_registry_or_a_place_on_one_machine() -> None:
    found = []
    for path in _listed():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*HOSTS, *PLACES) if word in text]
    assert not found


def test_our_python_files_never_unpickle() -> None:
    pattern = re.compile(r"^\s*(import pickle|from pickle|import dill|import joblib)|torch\.load\(", re.MULTILINE)
    assert not [str(path) for path in PRODUCT if pattern.search((ROOT / path).read_text())]
