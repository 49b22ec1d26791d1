"""A worker that stands still ends itself with a code and a reason; nothing it had read is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.installation import Installation, events
from tests.worker_process import WorkerProcess, until

pytestmark = pytest.mark.slow

STUCK = 70


async def code_of(worker: WorkerProcess, timeout_s: float = 40) -> int:
    await until(lambda: worker.process.poll() is not None, timeout_s, lambda: worker.text[-3000:])
    return int(worker.process.returncode)


async def test_members_that_disagree_on_the_protocol_are_told(installation: Installation) -> None:
    """Aiokafka waits for somebody to read the coordinator's error, which Faust never does."""
    worker = installation.worker(KAIROS_SESSION_TIMEOUT_S="1")  # below the broker's least
    assert await code_of(worker) == STUCK
    assert "InvalidSessionTimeout" in worker.text


async def test_a_frozen_worker_is_replaced_and_rejoins_without_doubling(installation: Installation) -> None:
    first, second = installation.worker(), installation.worker()
    await first.ready()
    await second.ready()
    await installation.send(events(installation.topics, 1_000, seed=1))
    first.process.send_signal(signal.SIGSTOP)
    await installation.send(events(installation.topics, 1_000, seed=2))
    await installation.applied()
    first.process.send_signal(signal.SIGCONT)
    await installation.send(events(installation.topics, 1_000, seed=3))
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert await installation.wrong_items() == {}


async def test_a_stop_is_forced_when_redis_is_frozen(
    installation: Installation, make_valkey: object, kafka: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    valkey = make_valkey()  # type: ignore[operator]
    own = Installation(kafka, valkey.url, f"{topic_prefix}own.", namespace, tmp_path)
    try:
        await own.set_up()
        worker = own.worker(KAIROS_STOP_S="5")
        await worker.ready()
        valkey.pause()
        await own.send(events(own.topics, 500))
        await until(lambda: worker.get("/ready")[0] == 503, 20, lambda: worker.text, worker)
        worker.process.send_signal(signal.SIGTERM)
        await code_of(worker, 25)
        valkey.resume()
        again = own.worker()
        await again.ready()
        await own.applied()
        assert await own.wrong_users() == {}
    finally:
        own.close()


async def test_redis_that_went_back_while_idle_is_found_by_the_audit(installation: Installation) -> None:
    worker = installation.worker()
    await worker.ready()
    await installation.send(events(installation.topics, 600, seed=1))
    await installation.applied()
    saved = await copy_of(installation)
    await installation.send(events(installation.topics, 600, seed=2))
    await installation.applied()
    await restore(installation, saved)
    await installation.applied()
    assert await installation.wrong_users() == {}
    assert await installation.wrong_items() == {}
    assert worker.metric("kairos_rewinds_total") > 0


async def copy_of(installation: Installation) -> dict[bytes, bytes]:
    """Every key of the namespace as DUMP gives it."""
    async with installation.redis() as redis:
        pattern = b"{kairos:%b:*" % installation.keys.namespace.encode()
        return {key: await redis.dump(key) async for key in redis.scan_iter(pattern, count=1000)}


async def restore(installation: Installation, saved: dict[bytes, bytes]) -> None:
    """Put the namespace back to what it was, in one step, as a Redis that lost its last writes."""
    async with installation.redis() as redis:
        pattern = b"{kairos:%b:*" % installation.keys.namespace.encode()
        pipe = redis.pipeline(transaction=True)
        async for key in redis.scan_iter(pattern, count=1000):
            pipe.delete(key)
        for key, value in saved.items():
            pipe.restore(key, 0, value)
        await pipe.execute()
