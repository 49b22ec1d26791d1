"""From verdicts to decisions: every user ends as sent, held or refused, with the rule that settled it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model_server.policy.rules import ITEM_RULES, USER_RULES, ItemFacts, UserFacts, Verdict
from model_server.policy.settings import PolicySettings

Outcome = Literal["sent", "held", "refused"]


@dataclass(frozen=True, slots=True)
class Decision:
    """How one user ended: the rule that settled it, with what it saw.

    `retry_ms`: for a held user, when to try again. `picks`: for a sent one, the candidates chosen (indices along K).
    """

    outcome: Outcome
    stage: str
    rule: str
    value: float
    threshold: float
    retry_ms: int | None = None
    picks: tuple[int, ...] = ()


def admit(facts: UserFacts, settings: PolicySettings) -> list[Decision | None]:
    """For each of U users the decision that needs no score, None for those worth one.

    A refusal goes before a hold; a user held by several rules is tried again when the last of them passes.
    """
    verdicts = [rule(facts, settings) for rule in USER_RULES]
    failed = np.stack([~verdict.passed for verdict in verdicts])
    first = failed.argmax(0)
    decided: list[Decision | None] = [None] * failed.shape[1]
    retry_ms = _retry_ms(verdicts)
    for user in np.flatnonzero(failed.any(0)).tolist():
        verdict = verdicts[int(first[user])]
        if verdict.retry_ms is None:
            decided[user] = _decision(verdict, (user,), "refused", None)
        else:
            decided[user] = _decision(verdict, (user,), "held", int(retry_ms[user]))
    return decided


def decide(items: ItemFacts, settings: PolicySettings) -> list[Decision]:
    """For each of U scored users: the best candidates that pass every rule, else why the best one failed."""
    verdicts = [rule(items, settings) for rule in ITEM_RULES]
    failed = np.stack([~verdict.passed for verdict in verdicts])
    passed = ~np.logical_or.reduce(failed, axis=0)
    chosen = passed & (np.cumsum(passed, axis=1) <= settings.slots)
    first = failed[:, :, 0].argmax(0).tolist()
    sent = np.logical_or.reduce(passed, axis=1).tolist()
    final = verdicts[-1]
    decisions = []
    for user, was_sent in enumerate(sent):
        if was_sent:
            picks = tuple(np.flatnonzero(chosen[user]).tolist())
            best = (user, picks[0])
            value, threshold = float(final.value[best]), float(final.threshold[best])
            decisions.append(Decision("sent", final.stage, final.rule, value, threshold, picks=picks))
        else:
            decisions.append(_decision(verdicts[first[user]], (user, 0), "refused", None))
    return decisions


def _decision(verdict: Verdict, at: tuple[int, ...], outcome: Outcome, retry_ms: int | None) -> Decision:
    value, threshold = float(verdict.value[at]), float(verdict.threshold[at])
    return Decision(outcome, verdict.stage, verdict.rule, value, threshold, retry_ms)


def _retry_ms(verdicts: Sequence[Verdict]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each user when the last of the rules that hold it back will pass, 0 where none does."""
    times = [np.where(v.passed, 0, v.retry_ms) for v in verdicts if v.retry_ms is not None]
    latest: np.ndarray[tuple[int], np.dtype[np.int64]] = np.maximum.reduce(times)
    return latest
