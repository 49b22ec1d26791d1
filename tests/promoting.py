"""An installation with a run beside it, traffic that flows all the while, and promotions that die on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from schemas import dead_letters, decisions, recommendations
from schemas.keys import Keys
from schemas.topics import Topics
from streams.features.declaration import DEFAULT
from streams.operations.promote import Promotion
from streams.operations.promote_plan import plan
from streams.service.redis import connect
from streams.service.settings import read
from streams.settings import StreamSettings
from tests.installation import ROOT, Installation, Sent, events

RESCORES = {kind.wire for kind in DEFAULT.kinds if kind.priority is not None}
BROKEN = b"{"
Place = tuple[str, int, int]
SCORING = {
    "KAIROS_QUIET_HOURS": "00:00-00:00",
    "KAIROS_MIN_SCORE": "0",
    "KAIROS_MIN_GRADE": "not_recommended",
    "KAIROS_LEASE_S": "60",
}


class Promoted(Installation):
    """An installation beside which `run` is built; `beside` says which namespace the checks look at."""

    def __init__(self, kafka: str, redis_url: str, prefix: str, namespace: str, folder: Path) -> None:
        super().__init__(kafka, redis_url, prefix, namespace, folder)
        self.name, self.run_name = namespace, f"{namespace}-run"
        self.sent_ms: dict[str, int] = {}
        self.models: list[subprocess.Popen[bytes]] = []

    def look_at(self, namespace: str) -> None:
        """Fences and rows are those of this namespace from now on."""
        self.keys, self.topics = Keys(namespace), Topics(self.topics.prefix, namespace)

    async def build_run(self, **env: str) -> Installation:
        """Topics and offsets of the run, as `kairos topics create` makes them."""
        (folder := self.folder / "run").mkdir(exist_ok=True)
        made = Installation(self.kafka, self.redis_url, self.topics.prefix, self.run_name, folder)
        made.env |= {"KAIROS_GROUP": self.env["KAIROS_GROUP"], **env}
        assert (await made.set_up(partitions=self.partitions, item_partitions=self.item_partitions))[0] == 0
        made.events = self.events
        return made

    def model(self) -> None:
        """Start a model worker process."""
        with (self.folder / f"model{len(self.models)}.log").open("wb") as log:
            line = [sys.executable, "-m", "deploy.cli", "model"]
            self.models.append(subprocess.Popen(line, cwd=ROOT, env={**self.env, **SCORING}, stdout=log, stderr=log))

    async def promote(self, *options: str) -> dict[str, Any]:
        """Run `kairos promote OPTIONS --json`, which has to end well; what it told."""
        done = await asyncio.to_thread(self.run, "promote", *options, "--json", timeout_s=180)
        logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))
        assert done.returncode == 0, f"{done.stderr}\n{done.stdout}\n{logs}"
        return dict(orjson.loads(done.stdout))

    @asynccontextmanager
    async def flowing(self, per_s: int = 200, *, bad: bool = False) -> AsyncIterator[None]:
        """Traffic of now, until the end of the block; `bad`: with a record now and then that is none."""
        stop = asyncio.Event()

        async def flow() -> None:
            seed = 1_000 + len(self.events)
            while not stop.is_set():
                seed += 1
                now_ms = time.time_ns() // 1_000_000
                batch = []
                for record in events(self.topics, per_s // 10, seed=seed):
                    assert record.event is not None
                    event = {**record.event, "ts_ms": now_ms}
                    if event["kind"] == "opted-out":
                        event["kind"] = "opened"
                    batch.append(record._replace(value=orjson.dumps(event), event=event))
                    if event["kind"] in RESCORES:
                        self.sent_ms[str(event["user_id"])] = now_ms
                batch += [Sent(self.topics.clicks, b"u%d" % (seed % 100), BROKEN)] if bad else []
                await self.send(batch)
                await asyncio.sleep(0.1)

        flowing = asyncio.create_task(flow())
        try:
            yield
        finally:
            stop.set()
            await flowing

    async def unanswered(self) -> dict[str, int]:
        """Users of the traffic about whom nothing was decided since their last event, and when that was sent."""
        decided: dict[str, int] = defaultdict(int)
        for record in await self.read(self.topics.decisions):
            decision = decisions.decode(record.value)
            decided[decision.user] = max(decided[decision.user], decision.ts_ms)
        return {user: sent_ms for user, sent_ms in self.sent_ms.items() if decided[user] < sent_ms}

    async def answered(self, timeout_s: float = 40) -> None:
        """Wait until every affected user has its end."""
        deadline_s = time.monotonic() + timeout_s
        while left := await self.unanswered():
            logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < deadline_s, (
                f"{len(left)} users have no end: {dict(list(left.items())[:3])}\n{logs}"
            )
            await asyncio.sleep(0.3)

    async def broken(self) -> set[Place]:
        """Where records lie that are none."""
        found = await self.read(self.topics.clicks)
        return {(record.topic, record.partition, record.offset) for record in found if record.value == BROKEN}

    async def buried(self) -> Counter[Place]:
        """How often a dead letter was sent about each record."""
        found = await self.read(self.topics.dead_letters)
        letters = [dead_letters.decode(record.key, record.value, record.headers) for record in found]
        return Counter((letter.topic, letter.partition, letter.offset) for letter in letters)

    async def pushed(self) -> list[recommendations.Recommendation]:
        """Candidates that were sent, those taken back left out."""
        found = [recommendations.decode(record.value) for record in await self.read(self.topics.recommendations)]
        return [candidate for candidate in found if candidate.status != "retracted"]

    def close(self) -> None:
        super().close()
        for process in self.models:
            process.kill()
            process.wait(10)


async def killed(env: Mapping[str, str], target: str, step: str) -> int:
    """Run a promotion in a process of its own that kills itself before this step; its exit status."""
    code = f"import asyncio; from tests.promoting import die; asyncio.run(die({target!r}, {step!r}))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, env=dict(env))
    return await process.wait()


async def die(target: str, step: str) -> None:
    """Promote, and be killed before this step."""
    settings = read(StreamSettings, os.environ)
    client = connect(settings.connections)

    def hear(name: str, _left: int | None = None) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    await Promotion(client, settings, await plan(client, settings, target), hear).run()
