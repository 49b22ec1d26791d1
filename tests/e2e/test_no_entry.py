"""Who cannot get into Kafka is told why and what to set: by services on /ready and in the log, by commands at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.stack import Broker
from tests.installation import Installation
from tests.worker_process import WorkerProcess, until

pytestmark = pytest.mark.slow

LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
CONFIG = {
    "listener.name.login.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.login.scram-sha-512.sasl.jaas.config": LOGIN,
}
REFUSES = "refuses user shop by SCRAM-SHA-512: check KAIROS_KAFKA_USERNAME and KAIROS_KAFKA_PASSWORD"
NO_TLS = "speaks no TLS: set KAIROS_KAFKA_SECURITY=SASL_PLAINTEXT"


async def test_services_and_commands_say_why_kafka_does_not_let_them_in(
    make_broker: Callable[..., Broker], redis_url: str, topic_prefix: str, namespace: str, tmp_path: Path
) -> None:
    broker = make_broker(listeners={"LOGIN": "SASL_PLAINTEXT"}, config=CONFIG, users={"shop": "right"})
    installation = Installation(broker.address, redis_url, topic_prefix, namespace, tmp_path)
    password = tmp_path / "password"
    password.write_text("wrong")
    services: list[WorkerProcess] = []
    try:
        await installation.set_up()
        installation.env |= {
            "KAIROS_KAFKA": broker.addresses["LOGIN"],
            "KAIROS_KAFKA_SECURITY": "SASL_PLAINTEXT",
            "KAIROS_KAFKA_USERNAME": "shop",
            "KAIROS_KAFKA_PASSWORD_FILE": str(password),
        }
        for command in (("topics", "check"), ("topics", "create"), ("why", "u1"), ("train", "--out", str(tmp_path))):
            ended = installation.run(*command)
            said = " ".join((ended.stdout + ended.stderr).split())
            assert (ended.returncode, REFUSES in said, "Traceback" in said) == (1, True, False), said
        for service in ("worker", "model"):
            for security, why in (("SASL_PLAINTEXT", REFUSES), ("SASL_SSL", NO_TLS)):
                env = {**installation.env, "KAIROS_KAFKA_SECURITY": security}
                process = WorkerProcess(env, tmp_path / f"{service}-{security}.log", service=service)
                services.append(process)
                await until(lambda p=process, w=why: w in p.get("/ready")[1], 40, lambda p=process: p.text, process)
                assert process.get("/ready")[0] == 503
                await until(lambda p=process, w=why: w in p.text, 5, lambda p=process: p.text, process)
        password.write_text("right")
        services.append(WorkerProcess(installation.env, tmp_path / "right.log"))
        await services[-1].ready()
    finally:
        for process in services:
            process.kill()
        installation.close()
