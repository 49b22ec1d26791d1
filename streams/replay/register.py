"""What is written down of a run beside the live tables, and what may be done to it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, field

from streams.replay.job import Mode
from streams.replay.ranges import Range, ReplayError
from streams.service.namespaces import InForce

Asked = tuple[str, str, int]
"""The texts of --from and --to, empty where there was none, and the lead-in in ms."""
ALL: Asked = ("", "", 0)


class KeptFile(Struct):
    """A file that a run holds: how it was called, and its lines.

    `catalogue`: what the items that it tells are known by, empty where they were not wanted; `listed`: they are in.
    """

    name: str
    id: str
    lines: int
    catalogue: str = ""
    listed: bool = False


class Run(Struct, omit_defaults=True):
    """A run as it is registered under its namespace.

    `ranges`: by topic and partition the offsets [from, to) that it was built from; files are topics `file:…`.
    `spans`: by topic the event times [from, to) in ms that count. `whole`: every topic from where the live rows began,
    so that the run may take their place. `rate_per_s`: records a second and process of its last replay.
    """

    mode: Mode
    created_ms: int
    schema: int
    whole: bool = False
    ranges: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    files: dict[str, KeptFile] = field(default_factory=dict)
    rate_per_s: float = 0.0
    finished_ms: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        told: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return told


def known(runs: Mapping[str, Mapping[str, Any]], name: str) -> Run | None:
    """The run of a name, None where there is none. Raises ReplayError for one that no replay registered."""
    if name not in runs:
        return None
    try:
        return msgspec.convert(runs[name], Run, strict=False)
    except msgspec.ValidationError as error:
        message = f"Run {name} was registered by another version of Kairos ({error}): replay into a new run."
        raise ReplayError(message) from error


class Target(NamedTuple):
    """A namespace to be filled: what is in force beside it, what is known of it, whether it holds rows."""

    name: str
    force: InForce
    run: Run | None
    holds_rows: bool


def refuse_target(target: Target, mode: Mode, schema: int) -> None:
    """Raises ReplayError unless the namespace may be filled in this mode under this declaration."""
    name, force, run = target.name, target.force, target.run
    if name in {force.live, force.serving}:
        message = (
            f"{name} is the namespace in force: a replay would count its events twice. Choose another --into NAME."
        )
        raise ReplayError(message)
    if name == force.previous:
        message = f"{name} is the way back of the last promotion (`kairos promote --undo`): choose another --into NAME."
        raise ReplayError(message)
    if run is None:
        if target.holds_rows:
            message = f"Namespace {name} holds rows that no replay wrote: choose another --into NAME."
            raise ReplayError(message)
        return
    if run.mode != mode:
        message = (
            f"Run {name} was begun in mode {run.mode} and stays so: leave --mode out, or choose another --into NAME."
        )
        raise ReplayError(message)
    if run.schema != schema:
        message = (
            f"Run {name} was begun under declaration {run.schema}, KAIROS_FEATURES gives {schema} now: restore the old "
            "features.toml, or choose another --into NAME."
        )
        raise ReplayError(message)


def goes_on(name: str, run: Run, topics: Sequence[str], asked: Asked | None) -> None:
    """Raises ReplayError when topics that a run has already are asked for in another range than it has."""
    for topic in topics:
        had = run.asked.get(topic)
        if had is not None and asked not in (None, had):
            message = (
                f"Run {name} has {topic} {_of(run.ranges[topic])}, asked for as {_words(had)}: it goes on with that "
                f"range and takes no other. Leave --from and --to out, or choose another --into NAME."
            )
            raise ReplayError(message)


def stored(run: Run, ranges: Sequence[Range]) -> list[Range]:
    """The ranges with the offsets that a run has, where it has any."""
    found = []
    for r in ranges:
        mine = run.ranges.get(r.topic, {}).get(r.partition)
        found.append(r if mine is None else r._replace(first=mine[0], end=mine[1]))
    return found


def of_ranges(ranges: Sequence[Range]) -> dict[str, dict[int, tuple[int, int]]]:
    """As a run keeps them."""
    kept: dict[str, dict[int, tuple[int, int]]] = {}
    for r in ranges:
        kept.setdefault(r.topic, {})[r.partition] = (r.first, r.end)
    return kept


def _of(parts: Mapping[int, tuple[int, int]]) -> str:
    return ", ".join(f"{p}: {first:,} to {end:,}" for p, (first, end) in sorted(parts.items()))


def _words(asked: Asked) -> str:
    start, end, _ = asked
    return " ".join([f"--from {start}"] * bool(start) + [f"--to {end}"] * bool(end)) or "the whole log"
