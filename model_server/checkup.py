"""What `kairos doctor` says of the model bundle: is there one, how old, can it serve; without torch."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import orjson

from model_server.bundle import BundleError, load
from model_server.model_folder import BUNDLE, CURRENT, current_version
from streams.features.declaration import DEFAULT, Declaration
from streams.features.features_file import load as load_declaration
from streams.service.findings import Section

OLD_DAYS = 30
DAY_S = 86_400
TRAIN = "Run `kairos train`."


def look_at_model(model_dir: str | None, features: Path | None, now_s: float | None = None) -> Section:
    """The bundle that `current` names, read whole as a worker would, but for the net itself. `now_s`: epoch seconds."""
    section = Section("model")
    section.facts = {"folder": model_dir, "version": None}
    if model_dir is None:
        section.yellow(
            "KAIROS_MODEL_DIR is not set: the rank blend serves.", f"{TRAIN[:-1]}, and set KAIROS_MODEL_DIR."
        )
        return section
    folder = Path(model_dir)
    if not folder.is_dir():
        section.red(f"There is no folder {folder}.", f"Set KAIROS_MODEL_DIR to where the bundles are, or: {TRAIN}")
        return section
    version = current_version(folder)
    if version is None:
        section.yellow(f"No bundle is named in {folder / CURRENT}: the rank blend serves.", TRAIN)
        return section
    section.facts["version"] = version
    _judge(section, folder, version, DEFAULT if features is None else load_declaration(features))
    if section.state == "green":
        _judge_age(section, folder / version, time.time() if now_s is None else now_s)
    return section


def _judge(section: Section, folder: Path, version: str, declaration: Declaration) -> None:
    if find_spec("safetensors") is None:
        section.yellow(
            f"Bundle {version} was not read: safetensors is not installed here.",
            "Ask where model workers run, or install kairos-push[model].",
        )
        return
    try:
        bundle = load(folder, version, declaration)
    except BundleError as error:
        what, _, remedy = str(error).rpartition(": ")
        section.red(f"{what or error}.", f"{remedy[:1].upper()}{remedy[1:]}.")
        return
    stage = "a net" if bundle.weights is not None else "the blend of the lists"
    section.facts |= {"schema": bundle.schema, "net": bundle.weights is not None}
    section.green(f"bundle {version}: {stage}, for rows of schema {bundle.schema}")


def _judge_age(section: Section, path: Path, now_s: float) -> None:
    days = (now_s - (path / BUNDLE).stat().st_mtime) / DAY_S
    section.facts |= {"age_days": round(days, 2), "report": _report(path)}
    if days > OLD_DAYS:
        section.yellow(f"It was trained {days:.0f} days ago: tastes and articles have moved on.", TRAIN)
    else:
        section.green(f"trained {days:.1f} days ago")


def _report(path: Path) -> object:
    document = orjson.loads((path / BUNDLE).read_bytes())
    return document.get("report") if isinstance(document, dict) else None
