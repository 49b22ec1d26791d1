"""A stage with doors: TLS and SCRAM before Kafka, TLS and users before Valkey, and the least rights behind both."""

from __future__ import annotations

import secrets
import shutil
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

USERS = ("worker", "model")
LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def may_encrypt() -> str | None:
    """Why this machine cannot have a stage with doors, None where it can."""
    return None if shutil.which("openssl") else "certificates need openssl"


class Doors:
    """Certificate, users and passwords of one run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "doors"
        self.passwords = {user: f"secret-{secrets.token_hex(12)}" for user in USERS}
        self.certificate, self.key = self.folder / "certificate.pem", self.folder / "key.pem"

    def make(self) -> None:
        """Write certificate and passwords down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=faults -addext subjectAltName=IP:127.0.0.1"
        command: list[str | Path] = ["openssl", "req", *options.split(), "-keyout", self.key, "-out", self.certificate]
        subprocess.run(command, check=True, capture_output=True)
        for user, password in self.passwords.items():
            (self.folder / user).write_text(password)

    def of_broker(self) -> dict[str, str]:
        """Server properties: the listener SECURE, and nobody but the harness may do what was not granted."""
        own = "listener.name.secure"
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            f"{own}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            f"{own}.scram-sha-512.sasl.jaas.config": LOGIN,
            f"{own}.ssl.keystore.type": "PEM",
            f"{own}.ssl.keystore.certificate.chain": self.certificate.read_text(),
            f"{own}.ssl.keystore.key": self.key.read_text(),
        }

    def tls(self) -> ssl.SSLContext:
        """What a server shows who connects to it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def env(self, user: str, kafka: str, redis: str) -> Mapping[str, str]:
        """Settings of a process of that user."""
        return {
            "KAIROS_KAFKA": kafka,
            "KAIROS_KAFKA_SECURITY": "SASL_SSL",
            "KAIROS_KAFKA_USERNAME": user,
            "KAIROS_KAFKA_PASSWORD_FILE": str(self.folder / user),
            "KAIROS_KAFKA_CA": str(self.certificate),
            "KAIROS_REDIS": redis.replace("redis://", "rediss://"),
            "KAIROS_REDIS_USERNAME": user,
            "KAIROS_REDIS_PASSWORD_FILE": str(self.folder / user),
            "KAIROS_REDIS_CA": str(self.certificate),
        }

    def told(self, logs: Iterable[Path]) -> list[str]:
        """Logs that hold a password."""
        texts = {path.name: path.read_text(errors="replace") for path in logs}
        return [name for name, text in texts.items() if any(secret in text for secret in self.passwords.values())]
