"""`kairos demo` from nothing to a checked result, on the shop and on a real log, and nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.demo.children import environment

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUICK = ["--seconds", "8", "--rate", "80"]
UNTRAINED = [*QUICK, "--no-train"]
SMALL_SHOP = ["--users", "400", "--history", "8000"]


def started(folder: Path, *options: str, **servers: str) -> subprocess.Popen[str]:
    """A demo without a terminal, its data and report in `folder`, on servers of its own unless some are named."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("KAIROS_")}
    command = [
        sys.executable,
        "-m",
        "deploy.cli",
        "demo",
        "--folder",
        folder,
        "--report",
        folder / "demo.json",
        *options,
    ]
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env={**env, **environment(servers)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(demo: subprocess.Popen[str]) -> str:
    """What the demo said, once it has ended well."""
    said, _ = demo.communicate(timeout=500)
    assert demo.returncode == 0, said
    return said


def assert_report_holds(folder: Path, said: str) -> dict[str, Any]:
    report: dict[str, Any] = orjson.loads((folder / "demo.json").read_bytes())
    assert (report["lost"], report["doubled"]) == (0, 0)
    assert report["candidates"] > 0
    assert report["users_rescored"] >= report["candidates"]
    assert 0 < report["event_to_candidate_p99_ms"] < 60_000
    assert report["events"] > report["live_events"] > 0
    assert "\x1b" not in said, "colours without a terminal"
    return report


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found


def test_the_shop_goes_from_nothing_to_checked_candidates(tmp_path: Path) -> None:
    said = finished(started(tmp_path, *QUICK, *SMALL_SHOP))
    report = assert_report_holds(tmp_path, said)
    assert report["events"] > 8_000
    assert report["ranker"].startswith("Ranker trained: ")
    assert "✘" not in said
    assert left_over(tmp_path) == []


def test_a_real_log_does_the_same_on_servers_that_already_run(tmp_path: Path, kafka: str, redis_url: str) -> None:
    log = DATA / "deskdrop_users_interactions.csv.zip"
    if not log.is_file():
        pytest.skip(f"{log} is absent: the real logs are not part of the repository")
    options = ["--events", str(log), "--map", "deskdrop", "--users", "300", *UNTRAINED]
    said = finished(started(tmp_path, *options, KAIROS_KAFKA=kafka, KAIROS_REDIS=redis_url))
    assert_report_holds(tmp_path, said)
    assert "Kafka and Redis are those the environment names" in said
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_interrupted_stops_all_it_started(tmp_path: Path, number: signal.Signals) -> None:
    demo = started(tmp_path, *QUICK, *SMALL_SHOP)
    deadline_s = time.monotonic() + 60
    while not (tmp_path / "worker-1.log").exists():
        assert time.monotonic() < deadline_s
        assert demo.poll() is None
        time.sleep(0.1)
    demo.send_signal(number)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, said
    assert "everything that was started has ended" in said
    assert left_over(tmp_path) == []


def test_a_log_that_cannot_be_read_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    demo = started(tmp_path, "--events", str(tmp_path / "absent.csv"), "--map", "deskdrop")
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "There is no file" in said
    assert "Traceback" not in said
