"""`kairos analyze`: what is in a log or a topic before it is imported, and the mapping that would be used."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import os
import time
from collections.abc import Mapping as Dict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from streams.admin import administering, describe, reading
from streams.operations import asking
from streams.operations.log_judgement import judge
from streams.operations.log_report import Analysis, markdown
from streams.service.arguments import whole_number
from streams.service.findings import Finding
from streams.service.kafka import client_options
from streams.service.verb import BAD, GOOD, Telling, parser
from streams.topic_plan import TopicLayout

if TYPE_CHECKING:
    from streams.features.declaration import Declaration
    from streams.logs.guess import Guess
    from streams.logs.mapping import Mapping
    from streams.operations.log_survey import LogSurvey
    from streams.settings import IntakeSettings

DAY_S = 86_400
FETCHED = 2_000
OURS = frozenset({"user_id", "item_id", "kind", "ts_ms"})
"""Columns of a file whose lines are events as a topic holds them."""
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".zip")


class Analyst:
    """Reads one log or topic; `declaration` says which kinds there are."""

    def __init__(self, settings: IntakeSettings, declaration: Declaration, partitions: int, tell: Telling) -> None:
        self.settings, self.declaration, self.partitions, self.tell = settings, declaration, partitions, tell

    @property
    def _kinds(self) -> frozenset[str]:
        return frozenset(kind.wire for kind in self.declaration.kinds)

    def file(self, path: Path, named: str | None) -> Analysis:
        """Analyse a file under a mapping, guessed where none is named. Raises LogError and MappingError."""
        from streams.logs.guess import Guess, guess
        from streams.logs.logs import fitted
        from streams.logs.mapping import load, parse
        from streams.logs.pieces import Form, is_json, pieces, sniffed

        name = path.name.partition(".")[0]
        mapping: Mapping | None = None
        guessed = Guess()
        if named is not None:
            mapping = load(named, self.declaration)
            form = Form(mapping.encoding, mapping.delimiter)
        else:
            form = sniffed(path)
            first = next(pieces(path, form))
            if set(first.names) >= OURS and is_json(path):
                return self._ours(path)
            guessed = guess(first, name, self._kinds, form)
            if guessed.toml:
                mapping = parse(guessed.toml, name, self.declaration)
        survey = self._survey(mapping, self.partitions)
        with self.tell.progress(f"Reading {path.name}", 0, "lines") as bar:
            found = pieces(path, form)
            for piece in found if mapping is None else fitted(found, mapping, path.name):
                survey.add(piece)
                bar.at(survey.lines, survey.lines)
        facts = survey.facts()
        findings = judge(facts, topic=False)
        if guessed.missing:
            remedy = "Write a mapping (docs/logs.md) and give it with --map."
            findings = [Finding("red", f"No column looks like {' or '.join(guessed.missing)}.", remedy), *findings[1:]]
        return Analysis(str(path), facts, findings, guessed.toml, guessed.notes)

    def _ours(self, path: Path) -> Analysis:
        """Analyse a file of events in our own schema, which needs no mapping."""
        from streams.logs.pieces import pieces

        survey = self._survey(None, self.partitions)
        with self.tell.progress(f"Reading {path.name}", 0, "lines") as bar:
            for piece in pieces(path):
                survey.add_wire(piece)
                bar.at(survey.lines, survey.lines)
        facts = survey.facts()
        notes = ["The lines are events in our own schema: no mapping is needed."]
        return Analysis(str(path), facts, judge(facts, topic=False), "", notes)

    async def topic(self, name: str, newest: int | None) -> Analysis | str:
        """Analyse a topic, or the newest records of each partition; a sentence where there is none of the name."""
        from streams.logs.guess import Guess

        kafka = client_options(self.settings.connections)
        async with administering(kafka) as admin:
            known = await describe(admin, [name])
            if name not in known:
                near = difflib.get_close_matches(name, await admin.list_topics(), n=1)
                return f"{name} is neither a file here nor a topic of Kafka at {self.settings.connections.kafka}." + (
                    f" Did you mean {near[0]}?" if near else " Set KAIROS_KAFKA to where it is."
                )
        survey = self._survey(None, known[name].partitions)
        kinds = self.settings.connections.topics.kinds.get(name)
        await self._read(survey, kafka, name, kinds or self._kinds, newest)
        facts = survey.facts()
        guessed = self._foreign(name, survey) if facts["events"] < facts["lines"] / 2 else Guess()
        return Analysis(name, facts, judge(facts, topic=True), guessed.toml, guessed.notes)

    def _foreign(self, name: str, survey: LogSurvey) -> Guess:
        """The mapping of records that are no events of ours, if they are JSON objects."""
        import pandas as pd

        from streams.logs.columns import Lines
        from streams.logs.guess import guess

        if not survey.first:
            return Guess()
        made = guess(Lines(pd.DataFrame(survey.first, dtype=object)), name, self._kinds)
        made.notes.append("Write the topic to a file of JSON lines, and back-fill that with this mapping.")
        return made

    async def _read(
        self, survey: LogSurvey, kafka: Dict[str, Any], name: str, kinds: frozenset[str], newest: int | None
    ) -> None:
        from aiokafka import TopicPartition

        from streams.operations.log_survey import Wire

        count = survey.rules.partitions
        partitions = [TopicPartition(name, p) for p in range(count)]
        isolation = self.settings.isolation
        async with reading(
            kafka, auto_offset_reset="none", isolation_level=isolation, fetch_max_wait_ms=20
        ) as consumer:
            starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            if newest is not None:
                starts = {tp: max(start, ends[tp] - newest) for tp, start in starts.items()}
            total = sum(ends[tp] - starts[tp] for tp in partitions)
            with self.tell.progress(f"Reading {name}", total) as bar:
                for tp in (tp for tp in partitions if ends[tp] > starts[tp]):
                    consumer.assign([tp])
                    consumer.seek(tp, starts[tp])
                    survey.times.elsewhere()
                    while await consumer.position(tp) < ends[tp]:
                        for records in (await consumer.getmany(tp, timeout_ms=200, max_records=FETCHED)).values():
                            wires = [Wire(r.key, r.value, r.timestamp) for r in records if r.offset < ends[tp]]
                            survey.add_records(wires, kinds, (tp.partition, count))
                            bar.at(survey.lines)

    def _survey(self, mapping: Mapping | None, partitions: int) -> LogSurvey:
        from streams.operations.log_survey import LogSurvey, Rules

        settings = self.settings
        rules = Rules(
            partitions=partitions,
            now_ms=time.time_ns() // 1_000_000,
            max_skew_ms=settings.max_skew_s * 1000,
            horizon_ms=settings.horizon_days * DAY_S * 1000,
            max_value_bytes=settings.max_value_bytes,
        )
        return LogSurvey(rules, self.declaration, mapping)


def analyze(argv: list[str]) -> int:
    """`kairos analyze FILE|TOPIC`: 1 when something is red, or it cannot be read."""
    from streams.opened import declared
    from streams.service import logs, settings
    from streams.settings import IntakeSettings

    asked = _parser(IntakeSettings).parse_args(argv)
    read = settings.read(IntakeSettings, os.environ)
    logs.setup(read.shell.log, "critical")
    tell = Telling(as_json=asked.json)
    found = _found(Analyst(read, declared(read), asked.partitions, tell), asked)
    if found is None:
        return tell.end(BAD)
    tell.facts(source=found.source, **found.facts, mapping={"toml": found.toml, "notes": list(found.notes)})
    tell.facts(findings=[finding._asdict() for finding in found.findings])
    tell.page(Text(markdown(found)))
    if asked.report is not None:
        asked.report.write_text(markdown(found), "utf-8")
    if asked.write_map is not None and found.toml:
        asked.write_map.write_text(found.toml, "utf-8")
    return tell.end(found.status)


def _found(analyst: Analyst, asked: argparse.Namespace) -> Analysis | None:
    """The analysis, or None after saying why there is none."""
    from streams.logs.columns import LogError
    from streams.logs.mapping import MappingError

    path, tell, found = Path(asked.what), analyst.tell, list[Analysis]()
    if path.is_file() or path.suffix.lower() in SUFFIXES or "/" in asked.what:
        try:
            return analyst.file(path, asked.map)
        except (LogError, MappingError, OSError) as error:
            tell.complain(str(error))
            return None

    async def look() -> int:
        answer = await analyst.topic(asked.what, asked.newest)
        if isinstance(answer, Analysis):
            found.append(answer)
        else:
            tell.complain(answer)
        return GOOD

    asyncio.run(asking.answered(tell, analyst.settings.connections, look, within_s=DAY_S))
    return found[0] if found else None


def _parser(cls: type) -> argparse.ArgumentParser:
    made = parser("analyze", "What is in a log or a topic before it is imported.", cls, acts=False)
    made.add_argument("what", metavar="FILE|TOPIC", help="a CSV, JSON lines or Parquet file (also zipped), or a topic")
    made.add_argument("--map", metavar="MAPPING", help="built-in mapping or a mapping file (guessed by default)")
    made.add_argument("--report", type=Path, metavar="PATH.md", help="write the report as Markdown too")
    made.add_argument("--write-map", type=Path, metavar="PATH.toml", help="write the guessed mapping")
    made.add_argument(
        "--partitions",
        type=whole_number,
        default=TopicLayout.users,
        metavar="N",
        help="of user topics, for a file (%(default)s)",
    )
    made.add_argument("--newest", type=whole_number, metavar="N", help="of a topic: the newest N of each partition")
    return made
