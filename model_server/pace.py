"""When to look at the queue, and how far ahead of their deadlines users are taken, so that candidates are in time."""

from dataclasses import dataclass

LONGEST_AHEAD_MS = 25.0
"""Most that users are taken early for the work itself: a worker that needs longer is behind anyway."""
WEIGHT = 1 / 16
"""Of the newest batch in the measured time of the work."""
LEAST_PAUSE_MS = 2
"""All that is due may be leased and queued again: do not spin."""


@dataclass
class Pace:
    """`company_ms`: how long a user may wait for company; `longest_ms`: the longest pause between two looks."""

    company_ms: int
    longest_ms: int
    work_ms: float = 0.0

    def worked(self, spent_ms: float) -> None:
        """A batch took so long from its departure to the acknowledgement of its candidates."""
        self.work_ms += WEIGHT * (min(max(spent_ms, 0.0), LONGEST_AHEAD_MS) - self.work_ms)

    @property
    def ahead_ms(self) -> int:
        """How long before their deadline users are taken: for the next look, for company, and for the work."""
        return self._between_ms + self.company_ms + round(self.work_ms)

    def pause_ms(self, next_due_ms: int | None, now_ms: int) -> int:
        """How long to the next look: new users have a delay before them, those queued are told.

        Not for every user by itself: two looks within half the wait for company bring the same batch.
        """
        if next_due_ms is None:
            return self.longest_ms
        least = max(self._between_ms, LEAST_PAUSE_MS)
        return min(max(next_due_ms - self.ahead_ms - now_ms, least), max(self.longest_ms, least))

    @property
    def _between_ms(self) -> int:
        return self.company_ms // 2
