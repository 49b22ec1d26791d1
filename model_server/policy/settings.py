"""What a shop decides about its pushes; every number is a threshold that a decision quotes."""

import re
from dataclasses import dataclass

from model_server.heads.grades import number
from streams.service.settings import setting

DAY_MS = 86_400_000

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def quiet_minutes(hours: str) -> tuple[int, int]:
    """First quiet minute of the local day, and the first that is not; raises ValueError with a part of a sentence."""
    match = _CLOCK.fullmatch(hours)
    if match is None:
        msg = "is no pair of local times, as 22:00-08:00, or 00:00-00:00 for none"
        raise ValueError(msg)
    hour, minute, until_hour, until_minute = map(int, match.groups())
    return hour * 60 + minute, until_hour * 60 + until_minute


@dataclass(frozen=True)
class PolicySettings:
    """Thresholds of the rules. Quiet hours are local, from included and until excluded, none where they are equal."""

    min_score: float = setting("KAIROS_MIN_SCORE", "Least final score of a push.", default=0.02, least=0, most=1)
    min_grade: str = setting(
        "KAIROS_MIN_GRADE",
        "Least grade of a push: not_recommended, recommended or best_match.",
        default="recommended",
        check=number,
    )
    max_optout: float = setting(
        "KAIROS_MAX_OPTOUT", "Greatest probability of an opt-out a push may have.", default=0.05, least=0, most=1
    )
    daily_cap: int = setting("KAIROS_DAILY_CAP", "Pushes a user gets in 24 hours at most.", default=5, least=0)
    minimum_gap_s: float = setting(
        "KAIROS_MINIMUM_GAP_S", "Seconds between two pushes to a user.", default=14_400.0, least=0
    )
    quiet_hours: str = setting(
        "KAIROS_QUIET_HOURS",
        "When the user's own clock forbids pushes, as 22:00-08:00.",
        default="22:00-08:00",
        check=quiet_minutes,
    )
    bought_days: float = setting(
        "KAIROS_BOUGHT_DAYS", "Days in which a bought item is not pushed.", default=30.0, least=0
    )
    pushed_days: float = setting(
        "KAIROS_PUSHED_DAYS", "Days in which a pushed item is not pushed again.", default=7.0, least=0
    )
    life_s: float = setting(
        "KAIROS_LIFE_S", "Seconds after which a push expires.", default=21_600.0, least=60, most=2_419_200
    )
    max_late_s: float = setting(
        "KAIROS_MAX_LATE_S", "Seconds after which what a user did is not answered any more.", default=21_600.0, least=1
    )
    slots: int = setting(
        "KAIROS_SLOTS", "Candidates a user gets at once; a device keeps four collapse keys.", default=1, least=1, most=4
    )

    @property
    def quiet_minutes(self) -> tuple[int, int]:
        """First quiet minute of the local day, and the first that is not."""
        return quiet_minutes(self.quiet_hours)

    @property
    def bought_window_ms(self) -> int:
        """How long a purchase speaks against its item."""
        return round(self.bought_days * DAY_MS)

    @property
    def life_ms(self) -> int:
        """How long a candidate may wait at the gateway or on a device that is off."""
        return round(self.life_s * 1000)
