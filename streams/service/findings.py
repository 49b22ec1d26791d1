"""What a look at an installation finds: green, yellow or red, each trouble with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

State = Literal["green", "yellow", "red"]
STATES: tuple[State, ...] = ("green", "yellow", "red")

LOOK_WITHIN_S = 15.0


class Finding(NamedTuple):
    """One sentence, and what to do about it where it is not green."""

    state: State
    what: str
    remedy: str = ""


@dataclass
class Section:
    """All findings of one look; `facts` are for programs."""

    name: str
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """The worst of its findings."""
        return worst(finding.state for finding in self.findings)

    def green(self, what: str) -> None:
        """All is well with this."""
        self.findings.append(Finding("green", what))

    def yellow(self, what: str, remedy: str) -> None:
        """It works, and somebody should look."""
        self.findings.append(Finding("yellow", what, remedy))

    def red(self, what: str, remedy: str) -> None:
        """It does not work, or is about to stop."""
        self.findings.append(Finding("red", what, remedy))


Look = Callable[[], Awaitable[Section]]


def worst(states: Iterable[State]) -> State:
    """The worst of several; green where there is none."""
    return max(states, key=STATES.index, default="green")


async def looked(name: str, look: Look, within_s: float = LOOK_WITHIN_S) -> Section:
    """What a look finds; that it failed or took too long is a finding too, so this raises nothing but cancellation."""
    section = Section(name)
    try:
        async with asyncio.timeout(within_s):
            return await look()
    except TimeoutError:
        section.red(
            f"No answer within {within_s:.0f} s.", "Look at the load of the server and at the network, and ask again."
        )
    except Exception as error:  # a page about what is broken must not break
        reason = str(error).rstrip(".") or type(error).__name__
        section.red(f"It could not be looked at ({type(error).__name__}): {reason}.", "Mend that, and ask again.")
    return section


def as_facts(sections: Sequence[Section]) -> dict[str, Any]:
    """Sections as plain values."""
    return {
        section.name: {
            "state": section.state,
            "findings": [finding._asdict() for finding in section.findings],
            **section.facts,
        }
        for section in sections
    }
