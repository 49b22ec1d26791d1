"""Judges what the model workers sent: every candidate has its decision, no item goes twice, everybody is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from schemas import decisions, recommendations
from tests.faults.verdict import Verdict

AFFECTING = frozenset({"click", "browse", "add-to-cart", "purchase"})
"""Kinds after which a user is scored again."""


def judge_answers(
    verdict: Verdict, events: Iterable[dict[str, Any]], candidates: Sequence[Any], decided: Sequence[Any]
) -> None:
    """`events` are those that counted; `candidates` and `decided` the records of the two topics."""
    known = {}
    for record in decided:
        decision = decisions.decode(record.value)
        known[decision.decision_id] = decision
    sent = [recommendations.decode(record.value) for record in candidates]
    verdict.candidates = len(sent)
    fresh = [candidate for candidate in sent if candidate.status != "retracted"]
    orphans = [c for c in fresh if not _decided(c, known.get(c.decision_id))]
    verdict.orphans = verdict.complain(
        len(orphans), "candidates without their decision", [(c.user.id, c.item.id, c.decision_id) for c in orphans]
    )
    keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for candidate in fresh:
        keys[candidate.user.id, candidate.item.id].add(candidate.dedup_key)
    twins = {pair: found for pair, found in keys.items() if len(found) > 1}
    verdict.twins = verdict.complain(
        len(twins), "items sent twice to one user under different dedup keys", list(twins.items())
    )
    affected = {event["user_id"] for event in events if event["kind"] in AFFECTING}
    answered = {decision.user for decision in known.values()}
    left = sorted(affected - answered)
    verdict.unanswered = verdict.complain(len(left), "affected users without a decision", left)


def _decided(candidate: recommendations.Recommendation, decision: decisions.Decision | None) -> bool:
    return decision is not None and any(chosen.dedup_key == candidate.dedup_key for chosen in decision.chosen)
