"""The time of a service: the machine's clock, which is not followed where it jumps."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

LARGEST_STEP_MS = 60_000
"""A machine's clock is set right by steps below this; what is larger is a mistake, or the end of one."""

MOST_APART_MS = 60_000
"""Events later than the clock by five minutes are left out: a clock that wrong would lose what is of now."""

log = logging.getLogger(__name__)


def steady_ns() -> int:
    """Nanoseconds that only go forward, while the machine sleeps too where it tells."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boot is None else time.clock_gettime_ns(boot)


class ClockError(OSError):
    """This machine's clock and that of Redis are too far apart to begin with."""


class Clock:
    """Epoch ms; call it for the time. `held_ms` is how far the machine's clock is ahead while it is not followed.

    Events are judged and deadlines set by this time: an hour's jump would leave out what is of now, or would let users
    wait for an hour. Drift and small steps are followed.
    """

    def __init__(self, wall_ns: Callable[[], int] | None = None, steady_ns: Callable[[], int] = steady_ns) -> None:
        self._wall_ns, self._steady_ns = wall_ns or time.time_ns, steady_ns
        self.held_ms = 0
        self.begin()

    def begin(self) -> None:
        """Take the machine's time for right from now on."""
        self._start_ns = self._wall_ns() - self._steady_ns()

    def __call__(self) -> int:
        """The time now, in ms since 1970."""
        wall_ns, own_ns = self._wall_ns(), self._steady_ns() + self._start_ns
        ahead_ms = (wall_ns - own_ns) // 1_000_000
        if abs(ahead_ms) <= LARGEST_STEP_MS:
            self._start_ns += wall_ns - own_ns
            self._follow()
            return wall_ns // 1_000_000
        if not self.held_ms:
            log.error(
                "The machine's clock has jumped by %d s and is not followed: set it right, or start this process again "
                "if it is right now.",
                ahead_ms // 1000,
            )
        self.held_ms = ahead_ms
        return own_ns // 1_000_000

    async def compare(self, redis_time: Callable[[], Awaitable[Sequence[int]]]) -> None:
        """Begin at the machine's time if Redis agrees with it; `redis_time` asks TIME. Raises ClockError if not."""
        self.begin()
        seconds, microseconds = await redis_time()
        ahead_ms = self() - (int(seconds) * 1000 + int(microseconds) // 1000)
        if abs(ahead_ms) > MOST_APART_MS:
            message = (
                f"this machine's clock is {abs(ahead_ms) // 1000} s {'ahead of' if ahead_ms > 0 else 'behind'} that of "
                "Redis: set the wrong one right, by NTP"
            )
            raise ClockError(message)

    def _follow(self) -> None:
        if self.held_ms:
            log.warning("The machine's clock is right again and is followed.")
        self.held_ms = 0
