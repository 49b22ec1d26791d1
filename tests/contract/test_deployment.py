"""The compose file and the Dockerfiles name only commands, ports, paths and variables that the code has."""

import dataclasses
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from prometheus_client import CollectorRegistry

import model_server
import streams
from deploy import cli
from deploy.stack.fetch import KAFKA_VERSION
from streams.service import http

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted(ROOT.glob("deploy/*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
PROBE = re.compile(r"urlopen\('(http://127\.0\.0\.1:\d+/\w+)'")


def _known_variables() -> set[str]:
    """Every variable that a settings dataclass of the two services reads, the `_FILE` form of secrets included."""
    known: set[str] = set()
    for package in (streams, model_server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("settings"):
                for thing in vars(importlib.import_module(module.name)).values():
                    if isinstance(thing, type) and dataclasses.is_dataclass(thing):
                        known |= {
                            field.metadata["env"] for field in dataclasses.fields(thing) if "env" in field.metadata
                        }
    return known | {f"{name}_FILE" for name in known}


def _dockerfile(service: dict[str, Any]) -> str:
    return ROOT.joinpath(service["build"]["dockerfile"]).read_text()


def _http_port(dockerfile: str) -> int:
    (found,) = re.findall(r"KAIROS_HTTP=0\.0\.0\.0:(\d+)", dockerfile)
    return int(found)


def test_the_services_are_the_ones_promised() -> None:
    assert set(COMPOSE["services"]) == {"kafka", "valkey", "topics", "worker", "model", "model-gpu"}
    assert len(DOCKERFILES) == 2


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_runs_a_command_that_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = OURS[name]["command"]
    assert command[0] in cli.COMMANDS
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: kairos" in capsys.readouterr().out


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_a_command_that_exists(path: Path) -> None:
    text = path.read_text()
    assert 'ENTRYPOINT ["kairos"]' in text
    (command,) = re.findall(r'^CMD \["(\w+)"', text, re.MULTILINE)
    assert command in cli.COMMANDS
    assert "kairos" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("path", [ROOT / "docker-compose.yml", *DOCKERFILES], ids=lambda path: path.name)
def test_every_variable_is_one_that_the_code_reads(path: Path) -> None:
    named = set(re.findall(r"\bKAIROS_\w+", path.read_text()))
    assert named
    assert named <= _known_variables()


@pytest.mark.parametrize("name", sorted(set(OURS) - {"topics"}))
def test_the_health_check_asks_where_the_service_listens(name: str) -> None:
    text = _dockerfile(OURS[name])
    port = _http_port(text)
    assert f"EXPOSE {port}\n" in text
    probes = PROBE.findall(text) + PROBE.findall(" ".join(OURS[name]["healthcheck"]["test"]))
    assert probes == [f"http://127.0.0.1:{port}/live"] * 2


async def test_the_path_of_the_health_check_is_served() -> None:
    paths = {urlsplit(url).path for path in DOCKERFILES for url in PROBE.findall(path.read_text())}
    server = await http.serve("127.0.0.1:0", live=dict, ready=dict, registry=CollectorRegistry())
    async with server, aiohttp.ClientSession() as client:
        for path in paths:
            async with client.get(f"http://{server.address}{path}") as answer:
                assert answer.status == 200


def test_the_services_meet_at_the_addresses_of_the_servers() -> None:
    kafka, valkey = COMPOSE["services"]["kafka"], COMPOSE["services"]["valkey"]
    for service in OURS.values():
        assert service["environment"]["KAIROS_KAFKA"] in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert urlsplit(service["environment"]["KAIROS_REDIS"]).hostname == "valkey"
    (published,) = kafka["ports"]
    assert "HOST://127.0.0.1:" + published.split(":")[1] in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert valkey["ports"][0].endswith(":6379")


def test_the_versions_are_the_ones_that_the_tests_run_on() -> None:
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert COMPOSE["services"]["valkey"]["image"].startswith("valkey/valkey:9.")


def test_valkey_keeps_the_features_and_never_evicts_them() -> None:
    from deploy.stack import valkey

    words = COMPOSE["services"]["valkey"]["command"][1:]
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        f"--{name}": value for name, value in valkey.SETTINGS.items()
    }


def test_workers_scale_and_the_gpu_is_asked_for_in_a_profile_only() -> None:
    worker, gpu = COMPOSE["services"]["worker"], COMPOSE["services"]["model-gpu"]
    assert worker["deploy"]["replicas"] >= 2
    assert not {"container_name", "ports"} & set(worker)
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert "gpu" in device["capabilities"]
    assert "deploy" not in COMPOSE["services"]["model"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_installs_the_wheel_from_the_lock_and_runs_without_root(path: Path) -> None:
    text = path.read_text()
    final = text[text.rindex("\nFROM ") :]
    assert "\nUSER 10001\n" in final
    assert "uv build --wheel" in text
    assert "/wheels/*.whl" in text
    for lock in re.findall(r"requirements/[\w.]+", text):
        assert (ROOT / lock).is_file()
    for wanted in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in wanted.split())


def test_every_volume_is_declared_and_used() -> None:
    used = {
        volume.partition(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])
