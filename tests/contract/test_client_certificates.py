"""Kafka lets in who brings both a certificate and a SCRAM password, and nobody who lacks one of them."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.stack import Broker
from streams.service.kafka import client_options
from streams.service.settings import Connections, read

LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself, so it is its own authority; return it and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    options = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop -addext subjectAltName=IP:127.0.0.1"
    command: list[str | Path] = ["openssl", "req", *options.split(), "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _listener(certificate: Path, key: Path) -> dict[str, str]:
    own = "listener.name.secure"
    return {
        f"{own}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{own}.scram-sha-512.sasl.jaas.config": LOGIN,
        f"{own}.ssl.client.auth": "required",
        f"{own}.ssl.keystore.type": "PEM",
        f"{own}.ssl.keystore.certificate.chain": certificate.read_text(),
        f"{own}.ssl.keystore.key": key.read_text(),
        f"{own}.ssl.truststore.type": "PEM",
        f"{own}.ssl.truststore.certificates": certificate.read_text(),
    }


async def _enter(env: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(**client_options(read(Connections, env)))
    try:
        await admin.start()
        await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.slow
async def test_both_keys_are_needed(make_broker: Callable[..., Broker], tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    broker = make_broker(listeners={"SECURE": "SASL_SSL"}, config=_listener(certificate, key), users={"shop": "right"})
    password = tmp_path / "password"
    known = {"KAIROS_KAFKA_CERT": str(certificate), "KAIROS_KAFKA_KEY": str(key)}
    env = {
        "KAIROS_KAFKA": broker.addresses["SECURE"],
        "KAIROS_KAFKA_SECURITY": "SASL_SSL",
        "KAIROS_KAFKA_USERNAME": "shop",
        "KAIROS_KAFKA_PASSWORD_FILE": str(password),
        "KAIROS_KAFKA_CA": str(certificate),
    }
    password.write_text("right\n")
    await _enter({**env, **known})
    with pytest.raises(KafkaError):
        await _enter(env)
    password.write_text("wrong\n")
    with pytest.raises(KafkaError):
        await _enter({**env, **known})
