"""This process: versions of Kairos and of the libraries whose insides it depends on, and the settings it was given."""

from __future__ import annotations

import dataclasses
import difflib
import platform
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement

from streams.service.findings import Finding, Section
from streams.service.settings import describe

DISTRIBUTION = "kairos-push"
INSIDES = ("faust-streaming", "mode-streaming", "aiokafka", "redis", "numpy")
OPTIONAL = ("torch", "transformers", "safetensors")
NO_SETTINGS = frozenset({"KAIROS_TRACEBACK"})

WARNED: Mapping[str, tuple[Any, str, str]] = {
    "KAIROS_ISOLATION": (
        lambda value: value == "read_uncommitted",
        "records of aborted transactions are counted",
        "Unset it, unless no producer uses transactions.",
    ),
    "KAIROS_SESSION_TIMEOUT_S": (
        lambda value: value < 10,
        "a worker that pauses that long loses its partitions",
        "Set 30 or more, but for tests.",
    ),
    "KAIROS_CHUNK": (lambda value: value < 100, "small chunks cost several times the CPU an event", "Set 4000."),
    "KAIROS_MAX_SKEW_S": (
        lambda value: value > 3600,
        "events of a clock that runs ahead by as much move windows and sessions",
        "Set 300.",
    ),
    "KAIROS_LIVENESS_S": (
        lambda value: value < 15,
        "a worker ends itself on a short trouble of Kafka or Redis",
        "Set 60.",
    ),
    "KAIROS_CACHE_MIB": (
        lambda value: value < 32,
        "rows are read again and again from Redis",
        "Set 256, or what the machine has.",
    ),
}
"""What of a setting is unusual: when, what follows, and what to do."""


def look_at_versions(required: Mapping[str, str] | None = None) -> Section:
    """Versions, against those that the release was made with; `required`: specifiers by distribution."""
    section = Section("versions")
    found = {name: _version(name) for name in (DISTRIBUTION, *INSIDES, *OPTIONAL)}
    section.facts = {"python": platform.python_version(), "platform": platform.platform(), "distributions": found}
    kairos = found[DISTRIBUTION] or "unknown"
    section.green(f"Kairos {kairos}, Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    section.green(", ".join(f"{name} {found[name] or 'not installed'}" for name in (*INSIDES, *OPTIONAL)))
    section.findings += judge_versions(found, _required() if required is None else required)
    return section


def judge_versions(found: Mapping[str, str | None], required: Mapping[str, str]) -> Iterator[Finding]:
    """Libraries that are missing or of another version than the release was tested with."""
    for name in INSIDES:
        wanted, installed = required.get(name, ""), found.get(name)
        if installed is None:
            yield Finding("red", f"{name} is not installed.", f"Install Kairos anew: pip install {DISTRIBUTION}.")
        elif wanted and not Requirement(f"{name}{wanted}").specifier.contains(installed, prereleases=True):
            yield Finding(
                "red",
                f"{name} {installed} is installed; Kairos overrides private parts of {name}{wanted}.",
                f"pip install '{name}{wanted}'",
            )


def look_at_settings(settings: Any, env: Mapping[str, str], further: Collection[str] = ()) -> Section:
    """Settings that differ from their defaults; `further`: names that other commands read."""
    section = Section("settings")
    changed = {name: value for name, value, default, secret in _values(settings) if not secret and value != default}
    secrets = sorted(name for name, value, default, secret in _values(settings) if secret and value != default)
    section.facts = {"changed": {name: str(value) for name, value in changed.items()}, "secrets_set": secrets}
    told = ", ".join([*(f"{name}={value}" for name, value in changed.items()), *(f"{name}=***" for name in secrets)])
    section.green(f"other than by default: {told}" if told else "all by default")
    section.findings += judge_settings(changed)
    known = {line.env for line in describe(type(settings))} | set(further) | NO_SETTINGS
    section.findings += unknown_names(env, known)
    return section


def judge_settings(changed: Mapping[str, Any]) -> Iterator[Finding]:
    """Values that are allowed, and seldom meant."""
    for name, (unusual, follows, remedy) in WARNED.items():
        if name in changed and unusual(changed[name]):
            yield Finding("yellow", f"{name}={changed[name]}: {follows}.", remedy)


def unknown_names(env: Mapping[str, str], known: Collection[str]) -> Iterator[Finding]:
    """Variables that look like settings, and that nothing reads."""
    for name in sorted(env):
        if name.startswith("KAIROS_") and name not in known and name.removesuffix("_FILE") not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            remedy = f"Did you mean {near[0]}?" if near else "Unset it, or see the settings with `--help`."
            yield Finding("yellow", f"{name} is set, and nothing reads it.", remedy)


def _values(settings: Any) -> Iterator[tuple[str, Any, Any, bool]]:
    """(variable, value, default, whether it is a secret) of every setting."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if "env" in field.metadata:
            yield field.metadata["env"], value, field.default, bool(field.metadata["secret"])
        else:
            yield from _values(value)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _required() -> dict[str, str]:
    """Specifiers of our own distribution, empty where it is not installed."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return {}
    parsed = [Requirement(line) for line in lines]
    return {r.name: str(r.specifier) for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})}
