"""From rulings to endings: every user ends as sent, held or refused, with the steps that led there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model_server.policy.rules import ITEM_RULES, USER_RULES, ItemFacts, Ruling, UserFacts
from model_server.policy.settings import PolicySettings
from schemas.decisions import Step

How = Literal["sent", "held", "refused"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How one user ended; the last step settled it.

    `retry_ms`: for a held user, when to try again. `picks`: for a sent one the candidates chosen, for a scored one
    that got none the candidate that the steps are about (indices along K).
    """

    outcome: How
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
    rulings = [rule(facts, settings) for rule in USER_RULES]
    failed = np.stack([~ruling.passed for ruling in rulings])
    settled = np.where(failed.any(0), failed.argmax(0), len(rulings)).tolist()
    retry_ms = _retry_ms(rulings).tolist()
    admissions = []
    for user, steps in enumerate(_steps(rulings)):
        at = settled[user]
        if at == len(rulings):
            admissions.append(Admission(steps, None))
        elif rulings[at].retry_ms is None:
            admissions.append(Admission(steps, Ending("refused", steps[: at + 1])))
        else:
            admissions.append(Admission(steps, Ending("held", steps[: at + 1], retry_ms[user])))
    return admissions


def decide(items: ItemFacts, admissions: Sequence[Admission], settings: PolicySettings) -> list[Ending]:
    """End U scored users: the best candidates that pass every rule, else why the best one failed.

    A user is held where every candidate fails and a rule only holds back the best one that is not refused.
    """
    rulings = [rule(items, settings) for rule in ITEM_RULES]
    failed = np.stack([~ruling.passed for ruling in rulings])
    passed = ~np.logical_or.reduce(failed, axis=0)
    refused = np.logical_or.reduce([f for f, v in zip(failed, rulings, strict=True) if v.retry_ms is None], axis=0)
    chosen = passed & (np.cumsum(passed, axis=1) <= settings.slots)
    sent = passed.any(1)
    looked_at = np.where(sent, passed.argmax(1), (~refused).argmax(1))
    told = [_at(ruling, looked_at) for ruling in rulings]
    settled = np.stack([~ruling.passed for ruling in told]).argmax(0).tolist()
    endings = []
    for user, after in enumerate(_steps(told)):
        before, at = admissions[user].steps, int(looked_at[user])
        if sent[user]:
            endings.append(Ending("sent", before + after, picks=tuple(np.flatnonzero(chosen[user]).tolist())))
            continue
        until_ms, steps = told[settled[user]].retry_ms, before + after[: settled[user] + 1]
        picks = (at,) if items.present[user, at] else ()
        held = until_ms is not None
        endings.append(Ending("held" if held else "refused", steps, int(until_ms[user]) if held else None, picks))
    return endings


def _at(ruling: Ruling, candidate: NDArray[np.int64]) -> Ruling:
    """The ruling on one candidate of each user."""
    users = np.arange(len(candidate))
    retry_ms = None if ruling.retry_ms is None else ruling.retry_ms[users, candidate]
    return ruling._replace(
        value=ruling.value[users, candidate], passed=ruling.passed[users, candidate], retry_ms=retry_ms
    )


def _steps(rulings: Sequence[Ruling]) -> list[list[Step]]:
    """The rulings on each user as steps; a value that never was is None."""
    columns = [
        [
            Step(v.stage, v.rule, passed, value if abs(value) < np.inf else None, v.threshold)
            for passed, value in zip(v.passed.tolist(), v.value.tolist(), strict=True)
        ]
        for v in rulings
    ]
    return [list(steps) for steps in zip(*columns, strict=True)]


def _retry_ms(rulings: Sequence[Ruling]) -> NDArray[np.int64]:
    """For each user when the last of the rules that hold it back will pass, 0 where none does."""
    times = [np.where(v.passed, 0, v.retry_ms) for v in rulings if v.retry_ms is not None]
    latest: NDArray[np.int64] = np.maximum.reduce(times)
    return latest
