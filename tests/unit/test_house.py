"""The house style where a machine can hold it: sizes, names, docstrings, and what may never be committed."""

import ast
import re
import subprocess
from pathlib import Path

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


def _sources() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in _listed("*.py")}


def test_a_file_fits_in_the_head() -> None:
    sizes = {name: len(text.splitlines()) for name, text in _sources().items()}
    assert len(sizes) > 100
    assert not {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FILE}


def test_a_function_fits_on_a_screen() -> None:
    sizes = {
        f"{name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in _sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FUNCTION}


def test_a_name_says_what_is_inside() -> None:
    assert not [name for name in _sources() if ROOMS_WITHOUT_A_SUBJECT & set(name.removesuffix(".py").split("/"))]


def test_nothing_committed_names_a_registry_or_a_place_on_one_machine() -> None:
    found = []
    for path in _listed():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*HOSTS, *PLACES) if word in text]
    assert not found


def test_our_python_files_never_unpickle() -> None:
    pattern = re.compile(r"^\s*(import pickle|from pickle|import dill|import joblib)|torch\.load\(", re.MULTILINE)
    # Bytewax keeps its state as pickles: the comparison with it reads those that it has just written.
    others_state = "tests/bench/peers/__main__.py"
    assert [name for name, text in _sources().items() if pattern.search(text)] == [others_state]
