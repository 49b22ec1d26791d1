"""`kairos why USER`: decisions about one user, with every rule that was looked at and what it saw."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson
from aiokafka.errors import KafkaError
from rich.console import Group
from rich.table import Table

from model_server.decision_log import DecisionLog, DecisionRecord, WhyError, reading
from model_server.heads.grades import NAMES
from model_server.policy.rules import ITEM_RULES, USER_RULES, Ruling
from model_server.scoring import BASE
from schemas.decisions import Decision, Step
from schemas.faults import bad_ids
from schemas.recommendations import Scores
from streams.service.entry import NoEntryError, entering
from streams.service.settings import Connections
from streams.service.trouble import clause
from streams.service.verb import BAD, GOOD, Telling

RULES: tuple[Callable[..., Ruling], ...] = (*USER_RULES, *ITEM_RULES)
MEANING = {rule.__name__: (rule.__doc__ or "").partition(";")[0] for rule in RULES}
"""What each rule says where it does not pass: the first words of its docstring."""
SECONDS = {"expired", "minimum_gap", "already_bought", "already_pushed"}
MINUTES = {"quiet_hours"}
TIMES = {"opted_out", "token_dead"}
GRADED = {"grade"}
LEAST_SHARE = 0.005
STYLES = {"sent": "green", "held": "yellow", "refused": "red"}


async def why(connections: Connections, user: str, telling: Telling, *, newest: int, at_ms: int | None = None) -> int:
    """Tell the newest decisions about a user, newest first, or that in force `at_ms` and the next one.

    Returns 0, or 1 after saying why there is none.
    """
    nothing: dict[str, object] = (
        {"decisions": []} if at_ms is None else {"at_ms": at_ms, "in_force": None, "next": None}
    )
    telling.facts(user=user, **nothing)
    for _, _, sentence in bad_ids("user_id", [user]):
        return _nothing(telling, sentence)
    try:
        async with entering(connections), reading(connections, user) as log:
            if at_ms is not None:
                return await _at(log, user, at_ms, telling)
            return await _newest(log, user, newest, connections.topics.decisions, telling)
    except NoEntryError as error:
        return _nothing(telling, f"The decisions cannot be read. {error}")
    except WhyError as error:
        return _nothing(telling, f"The decisions cannot be read: {clause(error)}.")
    except (KafkaError, OSError) as error:
        return _nothing(telling, f"The decisions cannot be read ({clause(error)}): set KAIROS_KAFKA to where they are.")


def _nothing(telling: Telling, sentence: str) -> int:
    """Say why there is nothing to tell."""
    telling.complain(sentence)
    return telling.end(BAD)


async def _newest(log: DecisionLog, user: str, newest: int, topic: str, telling: Telling) -> int:
    """Tell the newest decisions; 0, or 1 where there is none."""
    found = await log.newest(newest)
    if not found:
        return _nothing(telling, f"No decision about user {user} is kept in {topic}.")
    telling.facts(decisions=[_facts(each) for each in found])
    for each in found:
        telling.page(shown(each))
    return telling.end(GOOD)


async def _at(log: DecisionLog, user: str, at_ms: int, telling: Telling) -> int:
    """Tell what was in force at a moment and what came next; 0, or 1 where nothing was in force."""
    at, after = await log.in_force(at_ms)
    telling.facts(in_force=at and _facts(at), next=after and _facts(after))
    if at is None:
        kept = "what is kept of this time may have expired" if log.first else "it was not affected before"
        telling.complain(f"No decision about user {user} at {_time(at_ms)} or before it is kept: {kept}.")
    else:
        telling.page(f"In force at {_time(at_ms)}:\n")
        telling.page(shown(at))
    if after is not None:
        telling.page("The next decision:\n")
        telling.page(shown(after))
    elif at is not None:
        telling.page("No decision has followed.")
    return telling.end(BAD if at is None else GOOD)


def _facts(found: DecisionRecord) -> dict[str, object]:
    return {"offset": found.offset, **orjson.loads(found.value)}


def shown(found: DecisionRecord) -> Group:
    """A decision for people."""
    decision = found.decision
    style = STYLES[decision.outcome]
    head = [f"[bold {style}]{decision.outcome}[/]  {_time(decision.ts_ms)}  {_reason(decision)}"]
    for chosen in decision.chosen:
        scores = chosen.scores
        final = "" if scores is None else f"  final {scores.final:.4g}"
        grade = "" if chosen.grade is None else f"  {words(chosen.grade)}{_chances(scores)}"
        what = "item" if decision.outcome == "sent" else "best candidate"
        head.append(f"  {what} {chosen.item}{final}{grade}")
        if chosen.because:
            head.append(f"  because {because(chosen.because)}")
    waited = ", ".join(f"{place} {ms:.0f} ms" for place, ms in decision.waited_ms.items())
    versions = decision.versions
    foot = (
        f"  [dim]model {versions.model}, features {versions.features}, policy {versions.policy}; waited: {waited}; "
        f"offset {found.offset}[/]\n"
    )
    return Group(*head, _steps(decision.steps), foot)


def because(owed: Mapping[str, float]) -> str:
    """What a score is owed to, the greatest shares first; what adds nothing is left out."""
    shares = sorted(((part, share) for part, share in owed.items() if part != BASE), key=lambda pair: -abs(pair[1]))
    parts = [f"{part} {share:+.2f}" for part, share in shares if abs(share) >= LEAST_SHARE]
    return ", ".join([*parts, f"{BASE} {owed.get(BASE, 0.0):+.2f}"])


def words(grade: str) -> str:
    """A grade as people read it."""
    return grade.replace("_", " ").title()


def _chances(scores: Scores | None) -> str:
    """What the grade was cut from."""
    if scores is None or scores.p_rec is None or scores.p_best is None:
        return ""
    return f" (acts {scores.p_rec:.2g}, buys or the like {scores.p_best:.2g})"


def _reason(decision: Decision) -> str:
    if decision.outcome == "sent":
        return f"{len(decision.chosen)} candidate{'s' if len(decision.chosen) != 1 else ''}"
    step = next((step for step in reversed(decision.steps) if not step.passed), None)
    if step is None:
        return ""
    again = f" Tried again {_time(decision.retry_ms)}." if decision.retry_ms is not None else ""
    return f"{MEANING.get(step.rule, step.rule)}.{again}"


def _steps(steps: Sequence[Step]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for name in ("", "stage", "rule", "value", "threshold"):
        table.add_column(name, justify="right" if name in {"value", "threshold"} else "left")
    for step in steps:
        table.add_row(
            "  [green]✓[/]" if step.passed else "  [red]✗[/]",
            step.stage,
            step.rule,
            readable(step.rule, step.value),
            readable(step.rule, step.threshold),
        )
    return table


def readable(rule: str, value: float | str | None) -> str:
    """A rule's number in the unit people think in."""
    if value is None:
        return "never"
    if isinstance(value, str):
        return value
    unit = next((unit for rules, unit in UNITS if rule in rules), "{:.4g}".format)
    return unit(value)


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


UNITS: Sequence[tuple[set[str], Callable[[float], str]]] = (
    (TIMES, lambda ms: _time(round(ms)) if ms else "never"),
    (SECONDS, lambda s: str(timedelta(seconds=round(s)))),
    (MINUTES, lambda minutes: f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}"),
    (GRADED, lambda code: words(NAMES[min(max(int(code), 0), len(NAMES) - 1)])),
)
"""How the numbers of some rules are shown."""
