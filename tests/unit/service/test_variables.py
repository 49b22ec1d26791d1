"""A KAIROS_* variable that nobody reads is named, with the nearest one that is read; those of others are left alone."""

import pytest

from model_server.settings import ModelSettings, WhyTools
from model_server.training.cli import TrainSettings
from streams.service import settings
from streams.service.variables import KNOWN, unknown
from streams.settings import StreamSettings, Tools


def test_every_setting_of_every_command_is_known_and_nothing_else_but_one() -> None:
    lines = [
        line
        for cls in (StreamSettings, Tools, ModelSettings, WhyTools, TrainSettings)
        for line in settings.describe(cls)
    ]
    files = {f"{line.env}_FILE" for line in lines if f"{line.env}_FILE" in line.doc}
    assert {line.env for line in lines} | files | {"KAIROS_TRACEBACK"} == KNOWN


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("KAIROS_REDSI", "KAIROS_REDIS?"),
        ("KAIROS_SESION_TIMEOUT_S", "KAIROS_SESSION_TIMEOUT_S?"),
        ("KAIROS_KAFKA_BROKER", "KAIROS_KAFKA?"),
        ("KAIROS_KAFKA_USERNAME_FILE", "KAIROS_KAFKA_USERNAME?"),
        ("KAIROS_XYZZY", "--help."),
    ],
)
def test_the_nearest_setting_is_named(typed: str, meant: str) -> None:
    (said,) = unknown({typed: "hush", "PATH": "/bin", "KAIROS_KAFKA": "a:1"})
    assert said.startswith(f"{typed} is no setting of Kairos")
    assert said.endswith(meant)
    assert "hush" not in said


def test_settings_of_other_commands_and_service_links_are_no_strangers() -> None:
    links = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_6066_TCP", "PORT_6066_TCP_ADDR")
    assert unknown(dict.fromkeys(KNOWN, "x") | {f"KAIROS_WORKER_{link}": "x" for link in links}) == []
