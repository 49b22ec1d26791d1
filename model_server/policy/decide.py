"""From verdicts to endings: every user ends as sent, held or refused, with the steps that led there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_server.policy.rules import ITEM_RULES, USER_RULES, ItemFacts, UserFacts, Verdict
from model_server.policy.settings import PolicySettings
from schemas.decisions import Step

Outcome = Literal["sent", "held", "refused"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How one user ended; the last step settled it.

    `retry_ms`: for a held user, when to try again. `picks`: for a sent one the candidates chosen, for a scored and
    refused one the best candidate (indices along K).
    """

    outcome: Outcome
    steps: list[Step]
    retry_ms: int | None = None
    picks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """The steps of one user before scoring, and the ending where they already make one."""

    steps: list[Step]
    ending: Ending | None


def admit(facts: UserFacts, settings: PolicySettings) -> list[Admission]:
    """Look at U users before scoring.

    A refusal goes before a hold; a user held by several rules is tried again when the last of them passes.
    """
    verdicts = [rule(facts, settings) for rule in USER_RULES]
    failed = np.stack([~verdict.passed for verdict in verdicts])
    settled = np.where(failed.any(0), failed.argmax(0), len(verdicts)).tolist()
    retry_ms = _retry_ms(verdicts).tolist()
    admissions = []
    for user, steps in enumerate(_steps(verdicts)):
        at = settled[user]
        if at == len(verdicts):
            admissions.append(Admission(steps, None))
        elif verdicts[at].retry_ms is None:
            admissions.append(Admission(steps, Ending("refused", steps[: at + 1])))
        else:
            admissions.append(Admission(steps, Ending("held", steps[: at + 1], retry_ms[user])))
    return admissions


def decide(items: ItemFacts, admissions: Sequence[Admission], settings: PolicySettings) -> list[Ending]:
    """End U scored users: the best candidates that pass every rule, else why the best one failed."""
    verdicts = [rule(items, settings) for rule in ITEM_RULES]
    failed = np.stack([~verdict.passed for verdict in verdicts])
    passed = ~np.logical_or.reduce(failed, axis=0)
    chosen = passed & (np.cumsum(passed, axis=1) <= settings.slots)
    looked_at = passed.argmax(1)
    settled = failed[:, :, 0].argmax(0).tolist()
    sent = np.logical_or.reduce(passed, axis=1).tolist()
    endings = []
    for user, steps in enumerate(_steps([_at(verdict, looked_at) for verdict in verdicts])):
        before = admissions[user].steps
        if sent[user]:
            endings.append(Ending("sent", before + steps, picks=tuple(np.flatnonzero(chosen[user]).tolist())))
        else:
            picks = (0,) if items.present[user, 0] else ()
            endings.append(Ending("refused", before + steps[: settled[user] + 1], picks=picks))
    return endings


def _at(verdict: Verdict, candidate: NDArray[np.int64]) -> Verdict:
    """The verdict on one candidate of each user."""
    users = np.arange(len(candidate))
    return verdict._replace(value=verdict.value[users, candidate], passed=verdict.passed[users, candidate])


def _steps(verdicts: Sequence[Verdict]) -> list[list[Step]]:
    """The verdicts on each user as steps; a value that never was is None."""
    columns = [
        [
            Step(v.stage, v.rule, passed, value if abs(value) < np.inf else None, v.threshold)
            for passed, value in zip(v.passed.tolist(), v.value.tolist(), strict=True)
        ]
        for v in verdicts
    ]
    return [list(steps) for steps in zip(*columns, strict=True)]


def _retry_ms(verdicts: Sequence[Verdict]) -> NDArray[np.int64]:
    """For each user when the last of the rules that hold it back will pass, 0 where none does."""
    times = [np.where(v.passed, 0, v.retry_ms) for v in verdicts if v.retry_ms is not None]
    latest: NDArray[np.int64] = np.maximum.reduce(times)
    return latest
