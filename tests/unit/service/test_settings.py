"""Settings come from the environment once, and everything wrong is said at once without showing a secret."""

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Literal

import pytest

from streams.service import settings
from streams.service.settings import Connections, SettingsError, Shell, setting


@dataclass(frozen=True, kw_only=True)
class Example:
    """One setting of every kind."""

    connections: Connections
    chunk: int = setting("KAIROS_CHUNK", "Most records a chunk.", default=500, least=1, most=10_000)
    share: float = setting("KAIROS_SHARE", "A share.", default=0.5, least=0)
    loud: bool = setting("KAIROS_LOUD", "Say more.", default=False)
    color: Literal["red", "green"] = setting("KAIROS_COLOR", "A colour.", default="red")
    folder: Path | None = setting("KAIROS_FOLDER", "A folder.", default=None)
    token: str = setting("KAIROS_TOKEN", "The token.", secret=True)

    def problems(self) -> Iterator[str]:
        if self.loud and self.color == "green":
            yield "KAIROS_LOUD and KAIROS_COLOR=green do not go together."


def read(**env: str) -> Example:
    return settings.read(Example, {"KAIROS_TOKEN": "t", **{f"KAIROS_{name}": text for name, text in env.items()}})


def problems(**env: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(**env)
    return caught.value.problems


def test_defaults_serve_a_local_installation() -> None:
    made = read()
    assert made.connections == Connections()
    assert (made.chunk, made.share, made.loud, made.color, made.folder) == (500, 0.5, False, "red", None)


def test_values_are_read_by_type(tmp_path: Path) -> None:
    made = read(CHUNK="7", SHARE="0.25", LOUD="Yes", COLOR="Red", FOLDER=str(tmp_path))
    assert (made.chunk, made.share, made.loud, made.color, made.folder) == (7, 0.25, True, "red", tmp_path)


def test_an_empty_variable_counts_as_unset() -> None:
    assert read(CHUNK="", KAFKA=" ").connections.kafka == "127.0.0.1:9092"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        read().chunk = 3  # type: ignore[misc]


def test_all_problems_are_reported_at_once_each_with_its_variable() -> None:
    found = problems(
        CHUNK="many", SHARE="-1", LOUD="perhaps", COLOR="blue", FOLDER="/no/such",
        KAFKA="nowhere", KAFKA_SECURITY="none", REDIS="mysql://x", NAMESPACE="a b",
    )  # fmt: skip
    for name in ("CHUNK", "SHARE", "LOUD", "COLOR", "FOLDER", "KAFKA=", "KAFKA_SECURITY", "REDIS", "NAMESPACE"):
        assert sum(text.startswith(f"KAIROS_{name}") for text in found) == 1, name
    assert len(found) == 9


def test_the_error_is_a_readable_list() -> None:
    with pytest.raises(SettingsError, match="2 settings are wrong:\n  KAIROS_CHUNK=0 must be 1 to 10000: Most records"):
        read(CHUNK="0", SHARE="nan")


def test_a_required_setting_that_is_missing_is_named_with_its_meaning() -> None:
    with pytest.raises(SettingsError, match=r"KAIROS_TOKEN is not set: The token\."):
        settings.read(Example, {})


def test_values_that_do_not_go_together_are_named() -> None:
    assert problems(LOUD="1", COLOR="green") == ["KAIROS_LOUD and KAIROS_COLOR=green do not go together."]


def test_secrets_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hush\n")
    made = settings.read(Example, {"KAIROS_TOKEN_FILE": str(file)})
    assert made.token == "hush"


def test_a_secret_file_that_cannot_be_read_or_is_one_too_many_is_named(tmp_path: Path) -> None:
    assert "cannot be read" in problems(KAFKA_PASSWORD_FILE=str(tmp_path / "none"))[0]
    (tmp_path / "one").write_text("x")
    assert "both set" in problems(KAFKA_PASSWORD="y", KAFKA_PASSWORD_FILE=str(tmp_path / "one"))[0]


def test_no_secret_is_ever_shown() -> None:
    made = read(TOKEN="hush", REDIS="redis://app:hush@h:1", REDIS_PASSWORD="hush", KAFKA_PASSWORD="hush")
    assert "hush" not in repr(made)
    for env in ({"REDIS": "redis://app:hush@h:x"}, {"REDIS": "hush"}, {"REDIS": "redis://h/hush?x"}):
        assert "hush" not in " ".join(problems(**env))


def test_sasl_without_a_user_and_a_certificate_without_its_key_are_named(tmp_path: Path) -> None:
    certificate = tmp_path / "c.pem"
    certificate.write_text("x")
    found = problems(KAFKA_SECURITY="SASL_SSL", KAFKA_CERT=str(certificate), REDIS_KEY=str(certificate))
    assert [text.split()[0] for text in found] == [
        "KAIROS_KAFKA_SECURITY=SASL_SSL", "KAIROS_KAFKA_CERT", "KAIROS_REDIS_CERT",
    ]  # fmt: skip


def test_a_namespace_or_prefix_that_cannot_be_is_named() -> None:
    assert len(problems(NAMESPACE="a{b", TOPIC_PREFIX="a b")) == 2


def test_connections_know_topics_and_keys() -> None:
    made = read(NAMESPACE="b", TOPIC_PREFIX="t.").connections
    assert made.topics.clicks == "t.events.clicks.v1"
    assert made.keys.user_tag(1) == b"{kairos:b:1}"


def test_every_setting_is_described_for_help() -> None:
    lines = {line.env: line for line in settings.describe(Example)}
    assert lines["KAIROS_CHUNK"].default == "500"
    assert lines["KAIROS_TOKEN"].default == "required"
    assert "KAIROS_TOKEN_FILE" in lines["KAIROS_TOKEN"].doc
    assert "red, green" in lines["KAIROS_COLOR"].doc
    assert "KAIROS_KAFKA_CA" in lines
    assert all(line.env in settings.help_text(Example) for line in lines.values())


@pytest.mark.parametrize("http", ["6066", "host:", ":1:2:x", "h:99999"])
def test_an_http_address_that_is_none_is_named(http: str) -> None:
    with pytest.raises(SettingsError, match="KAIROS_HTTP"):
        settings.read(Shell, {"KAIROS_HTTP": http})
