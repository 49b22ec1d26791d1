"""`kairos up` shows where its servers are and takes them along when it is told to end."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.stack import ports
from deploy.stack.protocol import kafka_answers, redis_answers

ROOT = Path(__file__).parents[2]


def _up(folder: Path, *options: str) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if name not in {"KAIROS_KAFKA", "KAIROS_REDIS"}}
    command = [sys.executable, "-m", "deploy.cli", "up", "--folder", str(folder), *options]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _port(line: str) -> int:
    return int(line.strip().rpartition(":")[2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_prints_two_addresses_and_stops_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    running = _up(tmp_path)
    assert running.stdout is not None
    kafka, redis = running.stdout.readline(), running.stdout.readline()
    assert kafka.startswith("export KAIROS_KAFKA=127.0.0.1:")
    assert redis.startswith("export KAIROS_REDIS=redis://127.0.0.1:")
    assert kafka_answers(_port(kafka))
    assert redis_answers(_port(redis))

    second = _up(tmp_path)
    assert "Another kairos up runs in" in second.communicate(timeout=30)[1]
    assert second.returncode == 1

    running.send_signal(number)
    assert running.communicate(timeout=60)[1].endswith("Stopped.\n")
    assert running.returncode == 0
    assert not kafka_answers(_port(kafka))
    assert not redis_answers(_port(redis))


def test_up_says_when_a_server_ends_that_nobody_stopped(tmp_path: Path) -> None:
    running = _up(tmp_path)
    assert running.stdout is not None
    running.stdout.readline()
    with socket.create_connection(("127.0.0.1", _port(running.stdout.readline()))) as valkey:
        valkey.sendall(b"SHUTDOWN NOSAVE\r\n")
    assert "Valkey has ended; its log" in running.communicate(timeout=60)[1]
    assert running.returncode == 1


def test_up_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    port = ports.free_port()
    with socket.create_server(("127.0.0.1", port)):
        running = _up(tmp_path, "--kafka-port", str(port))
        said = running.communicate(timeout=60)[1]
    assert f"Port {port} on 127.0.0.1 is taken, so Kafka cannot listen there" in said
    assert running.returncode == 1


def test_a_download_that_fails_names_the_ways_out_and_leaves_nothing_behind(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    env = {"XDG_CACHE_HOME": str(tmp_path), "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "NO_PROXY": ""}
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "up", "--fetch"],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "could not be fetched from Maven Central" in ended.stderr
    assert "set KAIROS_KAFKA=host:port" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert [path.suffix for path in (tmp_path / "kairos").iterdir()] == [".lock"]
