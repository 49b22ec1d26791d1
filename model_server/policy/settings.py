"""What a shop decides about its pushes; every number is a threshold that a decision quotes."""

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True)
class PolicySettings:
    """Thresholds of the rules.

    Quiet hours are minutes of the local day, from included and until excluded, over midnight where from > until, none
    where they are equal. `slots` is how many candidates a user gets at once; each has its own collapse key (FCM keeps
    at most four a device).
    """

    min_score: float = 0.02
    max_optout: float = 0.05
    daily_cap: int = 5
    minimum_gap_ms: int = 4 * 3_600_000
    quiet_from_minute: int = 22 * 60
    quiet_until_minute: int = 8 * 60
    bought_window_ms: int = 30 * DAY_MS
    pushed_window_ms: int = 7 * DAY_MS
    life_ms: int = 6 * 3_600_000
    max_late_ms: int = 6 * 3_600_000
    slots: int = 1
    version: str = "1"

    def problems(self) -> list[str]:
        """Sentences about the settings that cannot be, each with the way out."""
        checks = (
            (0.0 <= self.min_score <= 1.0, f"min_score = {self.min_score}: choose a number from 0 to 1"),
            (0.0 <= self.max_optout <= 1.0, f"max_optout = {self.max_optout}: choose a number from 0 to 1"),
            (self.daily_cap >= 0, f"daily_cap = {self.daily_cap}: choose 0 (no pushes) or more"),
            (self.minimum_gap_ms >= 0, f"minimum_gap_ms = {self.minimum_gap_ms}: choose 0 or more"),
            (0 <= self.quiet_from_minute < 1_440, f"quiet_from_minute = {self.quiet_from_minute}: choose 0 to 1439"),
            (0 <= self.quiet_until_minute < 1_440, f"quiet_until_minute = {self.quiet_until_minute}: choose 0 to 1439"),
            (60_000 <= self.life_ms <= 28 * DAY_MS, f"life_ms = {self.life_ms}: choose one minute to 28 days"),
            (1 <= self.slots <= 4, f"slots = {self.slots}: choose 1 to 4, the collapse keys a device keeps"),
        )
        return [text for holds, text in checks if not holds]
