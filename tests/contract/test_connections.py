"""The clients built from settings get in: TLS and SASL at Kafka; TLS, ACL and Cluster at Redis."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
)
from redis.exceptions import AuthenticationError, ConnectionError  # noqa: A004

from deploy.stack import Broker, Valkey, ValkeyCluster
from streams.service import kafka, redis, settings
from streams.service.addresses import redis_address
from streams.service.entry import NoEntryError, entering, why_not
from streams.service.settings import Connections
from streams.service.trouble import passes, remedy

JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="secret";'


def connections(**env: str | Path) -> Connections:
    return settings.read(Connections, {f"KAIROS_{name}": str(text) for name, text in env.items()})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: TLS is not tested")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    options = (
        "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    )
    command: list[str | Path] = ["openssl", "req", *options.split(), "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def broker(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that also listens with TLS and with a login."""
    store = tmp_path_factory.mktemp("store") / "store.pem"
    store.write_text("".join(path.read_text() for path in reversed(certificate)))
    config = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.certificates": certificate[0].read_text(),
        "listener.name.login.plain.sasl.jaas.config": JAAS,
        "listener.name.both.plain.sasl.jaas.config": JAAS,
    }
    listeners = {"TLS": "SSL", "LOGIN": "SASL_PLAINTEXT", "BOTH": "SASL_SSL", "MUTUAL": "SSL"}
    with Broker(tmp_path_factory.mktemp("kafka"), config=config, listeners=listeners) as running:
        yield running


async def topics_of(made: Connections) -> list[str]:
    admin = AIOKafkaAdminClient(**kafka.client_options(made))
    try:
        await admin.start()
        names: list[str] = await admin.list_topics()
    finally:
        await admin.close()
    return names


@pytest.mark.parametrize(
    ("listener", "env"),
    [
        ("TLS", {"KAFKA_SECURITY": "SSL"}),
        ("LOGIN", {"KAFKA_SECURITY": "SASL_PLAINTEXT", "KAFKA_USERNAME": "app", "KAFKA_PASSWORD": "secret"}),
        ("BOTH", {"KAFKA_SECURITY": "SASL_SSL", "KAFKA_USERNAME": "app", "KAFKA_PASSWORD": "secret"}),
    ],
)
async def test_kafka_with_tls_and_a_login(
    broker: Broker, certificate: tuple[Path, Path], listener: str, env: dict[str, str]
) -> None:
    made = connections(KAFKA=broker.addresses[listener], KAFKA_CA=certificate[0], KAFKA_SASL_MECHANISM="PLAIN", **env)
    assert await topics_of(made) == []


SECURITY = "KAIROS_KAFKA_SECURITY"
NO_ENTRY = {
    "a wrong password": (
        "LOGIN",
        {"KAFKA_PASSWORD": "no"},
        "refuses user app by PLAIN: check KAIROS_KAFKA_USERNAME and",
    ),
    "a wrong mechanism": (
        "LOGIN",
        {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"},
        "takes no login by SCRAM-SHA-512, it offers PLAIN: set KAIROS_KAFKA_SASL_MECHANISM.",
    ),
    "no login": ("LOGIN", {"KAFKA_SECURITY": "PLAINTEXT"}, f"set {SECURITY}=SASL_PLAINTEXT, KAIROS_KAFKA_USERNAME and"),
    "no login in TLS": ("BOTH", {"KAFKA_SECURITY": "SSL"}, f"set {SECURITY}=SASL_SSL, KAIROS_KAFKA_USERNAME and"),
    "a login to a plain port": ("", {}, f"takes no login: set {SECURITY}=PLAINTEXT, or KAIROS_KAFKA"),
    "TLS to a plain port": ("", {"KAFKA_SECURITY": "SSL"}, f"speaks no TLS: set {SECURITY}=PLAINTEXT, or"),
    "TLS to a plain port with login": (
        "LOGIN",
        {"KAFKA_SECURITY": "SASL_SSL"},
        f"speaks no TLS: set {SECURITY}=SASL_PLAINTEXT, or",
    ),
    "plain to a TLS port": ("TLS", {"KAFKA_SECURITY": "PLAINTEXT"}, f"speaks TLS only: set {SECURITY}=SSL, or"),
    "plain to a TLS port with login": ("BOTH", {}, f"speaks TLS only: set {SECURITY}=SASL_SSL, or"),
    "an authority nobody knows": (
        "TLS",
        {"KAFKA_SECURITY": "SSL", "KAFKA_CA": ""},
        "set KAIROS_KAFKA_CA to the file of",
    ),
    "no certificate of ours": (
        "MUTUAL",
        {"KAFKA_SECURITY": "SSL"},
        "set KAIROS_KAFKA_CERT and KAIROS_KAFKA_KEY to one",
    ),
    "nobody there": ("127.0.0.1:1", {}, "Nothing listens where Kafka at 127.0.0.1:1 should be"),
    "no such host": ("kafka.invalid:9092", {}, "Kafka at kafka.invalid:9092 has a name that nobody knows"),
}


@pytest.mark.parametrize("name", NO_ENTRY)
async def test_a_sentence_says_why_kafka_does_not_let_us_in(
    broker: Broker, certificate: tuple[Path, Path], name: str
) -> None:
    listener, other, said = NO_ENTRY[name]
    known = {"": broker.address, **broker.addresses}
    env = {
        "KAFKA": known.get(listener, listener),
        "KAFKA_CA": str(certificate[0]),
        "KAFKA_SECURITY": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_USERNAME": "app",
        "KAFKA_PASSWORD": "secret",
    }
    made = connections(**{**env, **other})
    with pytest.raises(NoEntryError) as caught:
        async with entering(made):
            await topics_of(made)
    await asyncio.sleep(0.05)  # aiokafka does not wait for the sockets that it closes
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_an_error_of_whom_kafka_lets_in_stays_what_it_is(broker: Broker) -> None:
    with pytest.raises(KafkaError) as caught:
        async with entering(connections(KAFKA=broker.address)):
            raise TopicAlreadyExistsError
    assert type(caught.value) is TopicAlreadyExistsError


async def test_a_right_that_is_missing_is_named(broker: Broker) -> None:
    made = connections(KAFKA=broker.address, KAFKA_USERNAME="app")
    for error, what in (
        (TopicAuthorizationFailedError("events.clicks.v1"), "topic events.clicks.v1"),
        (TopicAuthorizationFailedError({"b", "a"}), "topic a, b"),
        (GroupAuthorizationFailedError("kairos"), "group kairos"),
    ):
        with pytest.raises(NoEntryError, match=f"does not let user app use the {what}: grant the rights that docs"):
            async with entering(made):
                raise error


async def test_the_address_that_a_broker_sends_us_on_to_is_named(make_broker: Callable[..., Broker]) -> None:
    broker = make_broker(config={"advertised.listeners": "PLAINTEXT://kafka.invalid:9092"})
    assert "sends us on to kafka.invalid:9092 (the broker's advertised.listeners)" in await why_not(
        connections(KAFKA=broker.address)
    )


async def test_redis_with_an_acl_user(make_valkey: Callable[..., Valkey]) -> None:
    server = make_valkey()
    address = f"127.0.0.1:{server.port}"
    admin = redis.connect(connections(REDIS=f"redis://{address}"))
    await admin.execute_command("ACL", "SETUSER", "app", "on", ">p@ss", "~*", "+@all")
    await admin.aclose()
    for env in ({"REDIS": f"redis://app:p%40ss@{address}"}, {"REDIS_USERNAME": "app", "REDIS_PASSWORD": "p@ss"}):
        client = redis.connect(connections(**{"REDIS": f"redis://{address}", **env}))
        assert await client.execute_command("ACL", "WHOAMI") == b"app"
        await client.aclose()
    client = redis.connect(connections(REDIS=f"redis://app:wrong@{address}"))
    with pytest.raises(AuthenticationError) as refused:
        await client.ping()
    assert "KAIROS_REDIS_PASSWORD" in remedy(refused.value)
    assert not passes(refused.value)
    await client.aclose()


@asynccontextmanager
async def tls_before(port: int, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """A port with TLS that asks for a certificate, before a plain one: the packaged Valkey has no TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.load_verify_locations(certificate[0])
    context.verify_mode = ssl.CERT_REQUIRED

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, behind_writer), pipe(behind_reader, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def test_redis_with_tls_and_a_client_certificate(redis_url: str, certificate: tuple[Path, Path]) -> None:
    plain = redis_address(redis_url)
    async with tls_before(plain.hosts[0][1], certificate) as port:
        url, known = f"rediss://localhost:{port}", {"REDIS_CERT": certificate[0], "REDIS_KEY": certificate[1]}
        client = redis.connect(connections(REDIS=url, REDIS_CA=certificate[0], **known))
        assert await client.ping()
        await client.aclose()
        for env in ({"REDIS_CA": certificate[0]}, known):
            stranger = redis.connect(connections(REDIS=url, **env))
            with pytest.raises(ConnectionError):
                await stranger.ping()
            await stranger.aclose()


async def test_redis_by_cluster_url(tmp_path: Path) -> None:
    with ValkeyCluster(tmp_path / "cluster") as cluster:
        client = redis.connect(connections(REDIS=cluster.url))
        for number in range(20):
            await client.set(f"{{{number}}}:x", number)
        assert [await client.get(f"{{{number}}}:x") for number in range(20)] == [b"%d" % n for n in range(20)]
        await client.aclose()


async def test_a_busy_server_is_told_from_one_that_refuses(make_valkey: Callable[..., Valkey]) -> None:
    client: Any = redis.connect(connections(REDIS=make_valkey(config={"busy-reply-threshold": "50"}).url))
    running = asyncio.ensure_future(client.eval("while true do end", 0))
    try:
        await asyncio.sleep(0.5)
        with pytest.raises(redis.NotNowError, match="busy running a script"):
            await client.set("a", 1)
        with pytest.raises(redis.NotNowError):
            await client.pipeline(transaction=False).get("a").execute()
    finally:
        await client.script_kill()
        await asyncio.gather(running, return_exceptions=True)
        await client.aclose()


class Closed:
    """A writer as uvloop leaves it to those who still use it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    def writelines(self, _: object) -> None:
        text = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        raise RuntimeError(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)


async def test_a_call_whose_connection_the_cluster_client_closes_has_lost_a_connection(
    make_cluster: Callable[..., ValkeyCluster],
) -> None:
    client: Any = redis.connect(connections(REDIS=make_cluster().url))
    try:
        await client.set("a", b"1")
        for node in client.get_nodes():
            for connection in node._connections:
                connection._writer = Closed(connection._writer)
        with pytest.raises(ConnectionError, match="closed while a call was on it"):
            await client.get("a")
        assert await client.get("a") == b"1"
    finally:
        await client.aclose()
