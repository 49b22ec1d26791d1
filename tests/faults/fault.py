"""One fault: what it does to a stage, how long, how it ends, and whether this machine can do it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.stage import Stage

Body = Callable[["Stage", Random], AsyncIterator[None]]
Inject = Callable[["Stage", Random], AbstractAsyncContextManager[None]]


class Ending(Enum):
    """How a fault may end; any other ending fails the run."""

    HEALS = "heals by itself"
    RESTARTS = "the process exits with a line that names cause and remedy, and its restart heals"
    STOPS = "that partition stops alone until an operator rebuilds, the others go on"
    REFUSED = "the start is refused until an operator decides"


class Layout(Enum):
    """Which servers a run has."""

    SINGLE = "one broker, one Valkey"
    BROKERS = "three brokers, one Valkey"
    SENTINEL = "one broker, a Valkey with a replica and a Sentinel"
    CLUSTER = "one broker, a Valkey Cluster of three"


EVERYWHERE = frozenset(Layout)
ONE_BROKER = frozenset({Layout.SINGLE, Layout.SENTINEL, Layout.CLUSTER})
ONE_VALKEY = frozenset({Layout.SINGLE, Layout.BROKERS})

EXIT_STUCK, EXIT_AGAIN, EXIT_REFUSED = 70, 75, 78


class FaultError(Exception):
    """A fault did not do to the stage what it is for; the run proves nothing."""


@dataclass(frozen=True)
class Fault:
    """`target` is what it acts on: a plan never has two faults of one target at the same time.

    lasts_s: shortest and longest time between inject and heal; layouts: stages that have what it acts on;
    needs: what the stage must be built with; forgets: Redis may lose acknowledged writes; takes_back: Kafka may abort a
    transaction whose commit it has acknowledged; cuts: the log loses records that an earlier fence needs; exits: codes
    with which processes may end by themselves under it.
    """

    name: str
    target: str
    about: str
    inject: Inject
    ending: Ending = Ending.HEALS
    lasts_s: tuple[float, float] = (0.0, 0.0)
    layouts: frozenset[Layout] = EVERYWHERE
    needs: frozenset[str] = frozenset()
    forgets: bool = False
    takes_back: bool = False
    cuts: bool = False
    exits: frozenset[int] = frozenset()
    available: Callable[[], str | None] = field(default=lambda: None)


FAULTS: dict[str, Fault] = {}
"""Every fault by its name, in the order of the documents; `tests.faults.registry` fills it."""


def fault(
    target: str,
    *,
    ending: Ending = Ending.HEALS,
    lasts_s: tuple[float, float] = (0.0, 0.0),
    layouts: frozenset[Layout] = EVERYWHERE,
    needs: tuple[str, ...] = (),
    forgets: bool = False,
    takes_back: bool = False,
    cuts: bool = False,
    exits: tuple[int, ...] = (),
    available: Callable[[], str | None] = lambda: None,
) -> Callable[[Body], Inject]:
    """Register a fault: the function's name is its name, its docstring what it does, its `yield` while it lasts."""

    def register(body: Body) -> Inject:
        name = body.__name__.replace("_", "-")
        inject = asynccontextmanager(body)
        about = " ".join((body.__doc__ or "").split())
        FAULTS[name] = Fault(
            name, target, about, inject, ending, lasts_s, layouts,
            frozenset(needs), forgets, takes_back, cuts, frozenset(exits), available,
        )  # fmt: skip
        return inject

    return register
