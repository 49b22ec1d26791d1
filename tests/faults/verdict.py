"""Judges a run: rows against the oracle, dead letters against the poison, candidates, exits, recoveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from schemas.dead_letters import decode as decode_letter
from streams.features.declaration import DEFAULT
from streams.features.items import ItemLayout
from streams.features.rows import Layout
from streams.testing import oracle
from streams.testing.terms import TERMS
from tests.faults.fault import Ending, Fault
from tests.faults.log import meant
from tests.faults.supervised import Exit
from tests.faults.tables import Tables
from tests.faults.traffic import BAD, GOOD
from tests.faults.truth import Place, Truth
from tests.faults.watch import Span

SHOWN = 5
LEFT_BEHIND_S = 90.0
BACK_S = 15.0
"""For so long after a fault of the brokers the producers may not have written again."""


@dataclass
class Verdict:
    """What was found; a run is right when there are no complaints.

    lost, doubled: events by the totals of users and kinds, missing and superfluous; wrong_rows: rows of users, items
    and catalogue that differ in anything; unburied: poison without a dead letter; twins: items pushed twice to one user
    under different dedup keys; orphans: candidates without their decision; unanswered: affected users without any;
    taken_back: records of commits that Kafka acknowledged and aborted;
    stuck_s, idle_s: longest standstill of a partition, and of the model workers, with work waiting and nothing broken;
    exits: processes that ended by themselves, and with what.
    """

    events: int = 0
    lost: int = 0
    doubled: int = 0
    wrong_rows: int = 0
    unburied: int = 0
    twins: int = 0
    orphans: int = 0
    unanswered: int = 0
    taken_back: int = 0
    candidates: int = 0
    recoveries_s: list[float] = field(default_factory=list)
    stuck_s: float = 0.0
    idle_s: float = 0.0
    exits: list[tuple[str, int]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def complain(self, count: int, what: str, examples: Sequence[object] = ()) -> int:
        """Note `count` cases of something wrong; none is no complaint."""
        if count:
            shown = "".join(f"\n    {example}" for example in examples[:SHOWN])
            self.complaints.append(f"{count} {what}{shown}")
        return count


Log = Mapping[Place, Sequence[Any]]


def judge_log(verdict: Verdict, truth: Truth, log: Log, aborted: Log) -> None:
    """Everything acknowledged is still in the log: else the run says nothing about the tables.

    `aborted`: the log with what was aborted, where Kafka itself may take a commit back that it has acknowledged: the
    coordinator of a lone broker that shuts down finds no leader, takes the partitions for deleted, and completes the
    transaction without its markers; the transaction is aborted when its time is over. Such records are counted apart.
    """
    acknowledged = {(*place, o, r.value) for place, records in truth.records.items() for o, r in records.items()}
    missing = acknowledged - _contents(log)
    gone = missing - _contents(aborted)
    verdict.taken_back = len(missing - gone)
    verdict.complain(len(gone), "acknowledged records are not in the log", sorted(where[:3] for where in gone))


def _contents(log: Log) -> set[tuple[str, int, int, bytes]]:
    return {(*place, record.offset, record.value) for place, records in log.items() for record in records}


def judge_rows(verdict: Verdict, log: Log, tables: Tables, items_topic: str) -> None:
    """Rows of users and items, bit for bit, and the catalogue."""
    records = [(place, record) for place, found in log.items() for record in found if meant(record) == GOOD]
    events = [orjson.loads(record.value) for (topic, _), record in records if topic != items_topic]
    verdict.events = len(events)
    users, items = Layout(DEFAULT), ItemLayout(DEFAULT)
    expected_users = oracle.user_rows(events)
    lost, doubled = _totals(expected_users, {name: users.unpack([row])[0] for name, row in tables.users.items()})
    verdict.lost = verdict.complain(sum(lost.values()), "events lost", list(lost.items()))
    verdict.doubled = verdict.complain(sum(doubled.values()), "events doubled", list(doubled.items()))
    wrong = _differences(expected_users, tables.users, users, "user")
    wrong |= _differences(oracle.item_rows(events), tables.items, items, "item")
    catalogue = {r.key.decode(): r.value for (topic, _), r in records if topic == items_topic}
    found = {name: orjson.loads(entry) for name, entry in tables.catalogue.items()}
    wrong |= {f"catalogue {k}": v for k, v in catalogue.items() if found.get(k) != orjson.loads(v)}
    verdict.wrong_rows = verdict.complain(len(wrong), "wrong rows", list(wrong.items()))


def _totals(
    expected: Mapping[str, Mapping[str, Any]], stored: Mapping[str, np.void]
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Events that are missing and superfluous, by user and kind."""
    lost, doubled = {}, {}
    nothing = [0] * len(TERMS.kinds)
    for user in expected.keys() | stored.keys():
        wanted = expected[user]["totals"] if user in expected else nothing
        has = stored[user]["totals"].tolist() if user in stored else nothing
        for kind, should, does in zip(TERMS.kinds, wanted, has, strict=True):
            if does < should:
                lost[user, kind] = should - does
            elif does > should:
                doubled[user, kind] = does - should
    return lost, doubled


def _differences(
    expected: Mapping[str, Mapping[str, Any]], stored: Mapping[str, bytes], layout: Layout | ItemLayout, what: str
) -> dict[str, Any]:
    wrong: dict[str, Any] = {f"{what} {name}": "unexpected row" for name in stored.keys() - expected.keys()}
    for name, row in expected.items():
        if found := oracle.difference(row, layout.unpack([stored.get(name)])[0]):
            wrong[f"{what} {name}"] = found
    return wrong


def judge_letters(verdict: Verdict, log: Log, letters: Sequence[Any]) -> None:
    """Every poison record lies in the dead letters, once or more often, and nothing good does."""
    buried = set()
    for record in letters:
        letter = decode_letter(record.key, record.value, record.headers)
        buried.add((letter.topic, letter.partition, letter.offset, letter.value))
    records = [(meant(r), (*place, r.offset, r.value)) for place, found in log.items() for r in found]
    left = [where for truth, where in records if truth == BAD and where not in buried]
    verdict.unburied = verdict.complain(len(left), "poison records without a dead letter", [w[:3] for w in left])
    wrong = [where for truth, where in records if truth == GOOD and where in buried]
    verdict.complain(len(wrong), "good records among the dead letters", wrong)


def judge_exits(verdict: Verdict, lasted: Sequence[tuple[Fault, Span]], exits: Sequence[Exit]) -> None:
    """Processes end by themselves only while a fault lasts that says so, or soon after, and name the cause in a line.

    `lasted` is each fault with when it was, in the seconds of the exits.
    """
    own = [end for end in exits if not end.ours and end.code != 0]
    verdict.exits = [(end.process, end.code) for end in own]
    strange = [end for end in own if not any(_explains(fault, span, end) for fault, span in lasted)]
    verdict.complain(len(strange), "exits that no fault explains", [(e.process, e.code, e.said) for e in strange])
    silent = [end for end in own if " critical " not in end.said]
    verdict.complain(len(silent), "exits without a word of the cause", [(e.process, e.code, e.said) for e in silent])
    for fault, _ in lasted:
        if fault.exits and fault.ending is not Ending.HEALS and not any(end.code in fault.exits for end in own):
            verdict.complain(1, f"ending that did not come: {fault.name} should have ended as: {fault.ending.value}")


def _explains(fault: Fault, span: Span, end: Exit) -> bool:
    """Whether a process may end so at that time: what a fault left behind may end it until the liveness rule has."""
    return end.code in fault.exits and span[0] <= end.at_s <= span[1] + LEFT_BEHIND_S


def must_have_forgotten(lasted: Sequence[tuple[Fault, Span]]) -> bool:
    """Whether Redis must have lost a write: not where Kafka was away at the time, and nothing was written."""
    away = [span for fault, span in lasted if fault.target == "kafka"]
    lost = [span for fault, span in lasted if fault.forgets]
    return any(all(back + BACK_S < start or end < gone for gone, back in away) for start, end in lost)
