"""What the oracle goes by: kinds, windows and scene fields in words of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS


@dataclass(frozen=True)
class Field:
    """A scene field: its codes are 0 for unknown, the values, then the buckets; with a step its values are numbers."""

    values: tuple[str, ...] = ()
    buckets: int = 0
    low: float = 0.0
    step: float = 0.0

    @property
    def size(self) -> int:
        """Number of codes."""
        return 1 + len(self.values) + self.buckets


@dataclass(frozen=True)
class Terms:
    """Kinds are named by their words on the wire, in the order of the rows; so are windows, scene fields, profiles."""

    kinds: tuple[str, ...]
    windowed: tuple[str, ...]
    remembered: tuple[str, ...]
    active: tuple[str, ...]
    of_items: tuple[str, ...]
    windows_ms: tuple[int, ...]
    scene: Mapping[str, Field]
    profiles: tuple[str, ...]
    history: int = 128
    hour_of_week: bool = True
    period_ms: int = 28 * DAY_MS
    opted_out: str = "opted-out"
    token_dead: str = "token-dead"  # noqa: S105 - a word on the wire

    def size_of(self, profile: str) -> int:
        """Number of codes of a profile."""
        derived = {"hour": 25, "weekday": 8, "holiday": 5}
        return derived[profile] if profile in derived else self.scene[profile].size


TERMS = Terms(
    kinds=(
        "click",
        "browse",
        "add-to-cart",
        "purchase",
        "return",
        "sent",
        "delivered",
        "opened",
        "dismissed",
        "converted",
        "opted-out",
        "token-dead",
    ),
    windowed=("click", "browse", "add-to-cart", "purchase", "sent", "opened"),
    remembered=("click", "browse", "add-to-cart", "purchase", "return", "opened", "dismissed"),
    active=("click", "browse", "add-to-cart", "purchase", "return", "opened"),
    of_items=("click", "browse", "add-to-cart", "purchase"),
    windows_ms=(5 * MINUTE_MS, 60 * MINUTE_MS, DAY_MS, 7 * DAY_MS, 30 * DAY_MS),
    scene={
        "device": Field(("phone", "tablet", "desktop", "watch", "tv", "other")),
        "os": Field(("ios", "android", "windows", "macos", "linux", "harmonyos", "other")),
        "app": Field(("app", "web", "mini-program", "other")),
        "network": Field(("wifi", "cellular", "ethernet", "offline", "other")),
        "region": Field(buckets=63),
        "weather": Field(("clear", "clouds", "rain", "snow", "storm", "fog", "wind", "other")),
        "temperature_c": Field(tuple(str(t) for t in range(-20, 45, 5)), low=-20, step=5),
        "place": Field(("home", "work", "transit", "store", "outdoors", "other")),
        "page": Field(("home", "search", "category", "item", "cart", "checkout", "account", "push", "other")),
    },
    profiles=("hour", "weekday", "device", "network", "region", "weather", "place", "page", "holiday"),
)
"""Those of a shop that declares nothing; written out, so that a slip in the default declaration is noticed."""


def terms_of(declaration: Any) -> Terms:
    """Those of a declaration with the fields of `streams.features.declaration.Declaration`, of which none is run."""
    kinds = declaration.kinds

    def words(flag: str) -> tuple[str, ...]:
        return tuple(kind.wire for kind in kinds if getattr(kind, flag))

    wire = {kind.name: kind.wire for kind in kinds}
    return Terms(
        kinds=tuple(kind.wire for kind in kinds),
        windowed=words("window"),
        remembered=words("history"),
        active=words("active"),
        of_items=words("item"),
        windows_ms=tuple(window.length_ms for window in declaration.windows),
        scene={f.name: Field(tuple(f.values), f.buckets, f.low, f.step) for f in declaration.scene},
        profiles=("hour", "weekday", *(f.name for f in declaration.scene if f.profile), "holiday"),
        history=declaration.history,
        hour_of_week=declaration.hour_of_week,
        period_ms=declaration.period_ms,
        opted_out=wire.get("opted_out", ""),
        token_dead=wire.get("token_dead", ""),
    )
