"""The names of the Kafka topics, and which event kinds each of them carries."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CLICKS = "events.clicks.v1"
BROWSES = "events.browses.v1"
ORDERS = "events.orders.v1"
FEEDBACK = "events.feedback.v1"
ITEMS = "items.v1"
DELTAS = "items.deltas.v1"
RECOMMENDATIONS = "recommendations.v1"
DECISIONS = "decisions.v1"
DEAD_LETTERS = "events.dead-letters.v1"

KINDS: Mapping[str, frozenset[str]] = {
    CLICKS: frozenset({"click"}),
    BROWSES: frozenset({"browse"}),
    ORDERS: frozenset({"add-to-cart", "purchase", "return"}),
    FEEDBACK: frozenset({"sent", "delivered", "opened", "dismissed", "converted", "opted-out", "token-dead"}),
}

USER_WORDS = ("clicks", "browses", "orders", "feedback")
"""The topics keyed by user, as a declaration and a mapping of logs name them."""


@dataclass(frozen=True)
class Outlets:
    """Where a model worker's records go, and the mode that each of them carries."""

    recommendations: str
    decisions: str
    mode: Literal["live", "shadow"]


@dataclass(frozen=True)
class Topics:
    """All topics of one installation; the prefix keeps several apart on one broker.

    Tables of another namespace are built from the same events but have item deltas of their own, so that a rebuild
    under another declaration and the live tables never read each other's.
    """

    prefix: str = ""
    namespace: str = "main"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", self.prefix):
            msg = f"The topic prefix {self.prefix!r} may hold at most 100 of the characters A-Z a-z 0-9 . _ -"
            raise ValueError(msg)

    @property
    def clicks(self) -> str:
        return self.prefix + CLICKS

    @property
    def browses(self) -> str:
        return self.prefix + BROWSES

    @property
    def orders(self) -> str:
        return self.prefix + ORDERS

    @property
    def feedback(self) -> str:
        return self.prefix + FEEDBACK

    @property
    def items(self) -> str:
        return self.prefix + ITEMS

    @property
    def deltas(self) -> str:
        return self.prefix + (DELTAS if self.namespace == "main" else f"items.deltas.{self.namespace}.v1")

    @property
    def recommendations(self) -> str:
        return self.prefix + RECOMMENDATIONS

    @property
    def decisions(self) -> str:
        return self.prefix + DECISIONS

    @property
    def outlets(self) -> Outlets:
        """Where live records go."""
        return Outlets(self.recommendations, self.decisions, "live")

    @property
    def shadow_outlets(self) -> Outlets:
        """Where those of a shadow go that is scored from this namespace; none of these names is a live one."""
        shadow = f"shadow.{self.namespace}.v1"
        return Outlets(f"{self.prefix}recommendations.{shadow}", f"{self.prefix}decisions.{shadow}", "shadow")

    @property
    def dead_letters(self) -> str:
        return self.prefix + DEAD_LETTERS

    @property
    def user_inputs(self) -> tuple[str, str, str, str]:
        """The four topics keyed by user, which share one partition count."""
        return (self.clicks, self.browses, self.orders, self.feedback)

    @property
    def item_inputs(self) -> tuple[str, str]:
        """The two topics partitioned by item, which share one partition count."""
        return (self.items, self.deltas)

    @property
    def word_of(self) -> Mapping[str, str]:
        """USER_WORDS by full topic name."""
        return dict(zip(self.user_inputs, USER_WORDS, strict=True))

    @property
    def kinds(self) -> Mapping[str, frozenset[str]]:
        """The event kinds each user topic carries, by full topic name."""
        return {self.prefix + name: kinds for name, kinds in KINDS.items()}
