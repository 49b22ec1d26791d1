"""Reads the pages of every process all through a run: none may show who the users are."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.stage import Stage
from tests.faults.verdict import Verdict

PATHS = ("/live", "/ready", "/metrics")
EVERY_S = 3.0
USER = re.compile(r"\bu\d+\b")
"""The ids of the users that the producers send events of."""


@dataclass
class Pages:
    """`shown` are lines with a user by process and path; `looks` counts the pages that were read by path."""

    stage: Stage
    shown: dict[tuple[str, str], str] = field(default_factory=dict)
    looks: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            for process in list(self.stage.processes):
                for path in PATHS:
                    status, body = await asyncio.to_thread(process.ask, path)
                    self.look_at(process.name, path, body if status else "")
            await asyncio.sleep(EVERY_S)

    def look_at(self, process: str, path: str, body: str) -> None:
        """Note what one page shows; an empty one was not served."""
        self.looks[path] += bool(body)
        if line := next((line for line in body.splitlines() if USER.search(line)), ""):
            self.shown.setdefault((process, path), line)

    def judge(self, verdict: Verdict) -> None:
        """No page may show a user, and every kind of page must have been seen."""
        verdict.complain(len(self.shown), "pages that show a user", list(self.shown.items()))
        unseen = [path for path in PATHS if not self.looks[path]]
        verdict.complain(len(unseen), "pages that nobody could read", unseen)
