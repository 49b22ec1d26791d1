"""Judges what the model workers sent: every candidate has its decision, no item goes twice, everybody is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from model_server.policy.pushes import KEPT
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
    twins = _twins(fresh)
    verdict.twins = verdict.complain(
        len(twins), "items sent twice to one user under different dedup keys, though the push log reaches back", twins
    )
    affected = {event["user_id"] for event in events if event["kind"] in AFFECTING}
    answered = {decision.user for decision in known.values()}
    left = sorted(affected - answered)
    verdict.unanswered = verdict.complain(len(left), "affected users without a decision", left)


def _decided(candidate: recommendations.Recommendation, decision: decisions.Decision | None) -> bool:
    return decision is not None and any(chosen.dedup_key == candidate.dedup_key for chosen in decision.chosen)


def _twins(sent: Sequence[recommendations.Recommendation]) -> list[tuple[str, str, str, str]]:
    """(user, item, dedup key, other key) of an item that the last pushes to its user held already."""
    logs: defaultdict[str, dict[str, str]] = defaultdict(dict)  # dedup key -> item, in order
    found = []
    for candidate in sorted(sent, key=lambda candidate: candidate.decided_ms):
        user, item, key = candidate.user.id, candidate.item.id, candidate.dedup_key
        log = logs[user]
        if key not in log:
            recent = list(log.items())[-(KEPT - 1) :]
            found += [(user, item, before, key) for before, pushed in recent if pushed == item]
            log[key] = item
    return found
