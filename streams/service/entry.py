"""Why Kafka does not let a client in, in one sentence that names the settings: the clients themselves do not say it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from streams.service.addresses import host_ports
from streams.service.kafka import client_options
from streams.service.settings import Connections
from streams.service.trouble import clause

ANSWER_WITHIN_S = 5.0
WATCH_EVERY_S = 5.0
HOSTNAME_MISMATCH, IP_MISMATCH = 62, 64  # X509_V_ERR_*
SECURITY, LOGIN = "KAIROS_KAFKA_SECURITY", "KAIROS_KAFKA_USERNAME and KAIROS_KAFKA_PASSWORD"

log = logging.getLogger(__name__)


class NoEntryError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka is untyped
    """No broker lets us in; the text is a sentence with the settings to look at."""

    def __str__(self) -> str:
        return str(self.args[0])


class Met(NamedTuple):
    """What one broker answered: the error that ended the attempt, or None, and what was found out about it.

    `entered`: connection, versions and login went well. `tls`: whether the port speaks TLS, None where nobody asked.
    `mechanisms`: those that the broker offers, empty where nobody asked.
    """

    address: str
    error: BaseException | None
    entered: bool = False
    tls: bool | None = None
    mechanisms: tuple[str, ...] = ()


@asynccontextmanager
async def entering(connections: Connections) -> AsyncIterator[None]:
    """What is raised inside because no broker lets us in, or not that far, becomes a NoEntryError that says why."""
    try:
        yield
    except (KafkaError, OSError) as error:
        if why := await why_not(connections) or missing_right(error, connections):
            raise NoEntryError(why) from error
        raise


def missing_right(error: BaseException, connections: Connections) -> str:
    """A sentence about the right that an error of Kafka is about; empty for any other error."""
    if not isinstance(error, TopicAuthorizationFailedError | GroupAuthorizationFailedError):
        return ""
    what = "group" if isinstance(error, GroupAuthorizationFailedError) else "topic"
    told = error.args[0] if error.args else ""
    names = ", ".join(sorted(map(str, told))) if isinstance(told, set | frozenset | list | tuple) else str(told)
    who = f"user {connections.kafka_username}" if connections.kafka_username else "who does not log in"
    return f"Kafka does not let {who} use the {what} {names}: grant the rights that docs/security.md lists."


class Doorkeeper:
    """Looks again and again while nothing is heard of Kafka; `why` is the reason, empty when there is none."""

    def __init__(self, connections: Connections, away: Callable[[], object]) -> None:
        self._connections, self._away = connections, away
        self.why = ""

    async def watch(self) -> None:
        """For ever; a new reason is logged."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            before, self.why = self.why, await why_not(self._connections) if self._away() else ""
            if self.why not in ("", before):
                log.warning("%s", self.why)


async def why_not(connections: Connections) -> str:
    """Why no broker of KAIROS_KAFKA lets us in, and the brokers that they name; empty when they do."""
    told = []
    for host, port in host_ports(connections.kafka):
        met, brokers = await _meet(connections, host, port)
        if met.error is None:
            return await _beyond(connections, met.address, brokers)
        told.append((isinstance(met.error, KafkaError | ssl.SSLError), sentence(connections, met)))
    # A broker that answered knows more than one that is away.
    return max(told, key=lambda pair: pair[0])[1]


async def _beyond(connections: Connections, address: str, brokers: list[tuple[str, int]]) -> str:
    """The brokers that the first one names are the ones to work with."""
    refused = ""
    for host, port in brokers:
        met, _ = await _meet(connections, host, port)
        if met.error is None:
            return ""
        refused = refused or (
            f"Kafka at {address} lets us in and sends us on to {met.address} (the broker's advertised.listeners). "
            f"{sentence(connections, met)}"
        )
    return refused


def sentence(connections: Connections, met: Met) -> str:
    """What keeps us out, and which settings to look at."""
    error, where, security = met.error, f"Kafka at {met.address}", connections.kafka_security
    if isinstance(error, SaslAuthenticationFailed):
        return (
            f"{where} refuses user {connections.kafka_username} by {connections.kafka_mechanism}: check {LOGIN}, and "
            "whether the user exists for this KAIROS_KAFKA_SASL_MECHANISM."
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        offered = ", ".join(met.mechanisms) or "others"
        return (
            f"{where} takes no login by {connections.kafka_mechanism}, it offers {offered}: set "
            "KAIROS_KAFKA_SASL_MECHANISM."
        )
    if isinstance(error, IllegalSaslStateError):
        wanted = security.removeprefix("SASL_")
        return f"{where} takes no login: set {SECURITY}={wanted}, or KAIROS_KAFKA to a port with SASL."
    if answered := _tls_sentence(error, where, security, tls=met.tls):
        return answered
    if isinstance(error, KafkaConnectionError) and met.entered and not security.startswith("SASL"):
        return (
            f"{where} closes the connection, as one that wants a login does: set {SECURITY}=SASL_{security}, {LOGIN}."
        )
    return _network_sentence(error, where)


def _tls_sentence(error: BaseException | None, where: str, security: str, *, tls: bool | None) -> str:
    """What is wrong with TLS on one of the two sides, else empty."""
    reason = error if isinstance(error, ssl.SSLError) else error.__cause__ if error is not None else None
    if isinstance(reason, ssl.SSLCertVerificationError):
        if reason.verify_code in {HOSTNAME_MISMATCH, IP_MISMATCH}:
            return f"The certificate of {where} is for another name: set KAIROS_KAFKA to the name that is in it."
        return (
            f"The certificate of {where} is not trusted ({clause(Exception(reason.verify_message))}): set "
            "KAIROS_KAFKA_CA to the file of the authority that signed it."
        )
    login = "SASL_" if security.startswith("SASL") else ""
    if security.endswith("SSL") and tls is False:
        return f"{where} speaks no TLS: set {SECURITY}={login}PLAINTEXT, or KAIROS_KAFKA to a port with TLS."
    if not security.endswith("SSL") and tls:
        return f"{where} speaks TLS only: set {SECURITY}={login}SSL, or KAIROS_KAFKA to a port without TLS."
    if isinstance(reason, ssl.SSLError):
        said = (reason.reason or "TLS").lower().replace("_", " ")
        return (
            f"{where} refuses our certificate, or that we show none ({said}): set KAIROS_KAFKA_CERT and "
            "KAIROS_KAFKA_KEY to one that its authority signed."
        )
    return ""


def _network_sentence(error: BaseException | None, where: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"{where} has a name that nobody knows: set KAIROS_KAFKA to where the brokers are."
    if isinstance(error, ConnectionRefusedError):
        return f"Nothing listens where {where} should be: start it, or set KAIROS_KAFKA to where it is."
    if isinstance(error, TimeoutError | RequestTimedOutError):
        return f"{where} does not answer within {ANSWER_WITHIN_S:g} s: is it up, and is KAIROS_KAFKA where it is?"
    reason = "the connection was closed" if error is None else clause(error)
    return f"{where} does not let us in ({reason}): check KAIROS_KAFKA and {SECURITY}."


async def _meet(connections: Connections, host: str, port: int) -> tuple[Met, list[tuple[str, int]]]:
    """Try one broker as a client would; what came of it, and the brokers that it names."""
    options = client_options(connections)
    for name in ("bootstrap_servers", "metadata_max_age_ms"):
        del options[name]
    met = Met(f"{host}:{port}", None)
    connection: AIOKafkaConnection | None = None
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            connection = await _connect(host, port, options)
            met = met._replace(entered=True)
            answer: Any = await connection.send(MetadataRequest([]))
            return met, [(broker[1], broker[2]) for broker in answer.brokers]
    except Exception as error:  # a port of something else may answer anything, and who asks why must get an answer
        met = met._replace(error=error)
    finally:
        if connection is not None:
            await connection.close()
    if isinstance(met.error, UnsupportedSaslMechanismError):
        met = met._replace(mechanisms=await _mechanisms(host, port, options))
    elif not met.entered and isinstance(met.error, KafkaConnectionError | ConnectionResetError | ssl.SSLError):
        met = met._replace(tls=await _speaks_tls(host, port))
    return met, []


async def _connect(host: str, port: int, options: dict[str, Any]) -> AIOKafkaConnection:
    return await create_conn(host, port, request_timeout_ms=round(1000 * ANSWER_WITHIN_S), **options)


async def _mechanisms(host: str, port: int, options: dict[str, Any]) -> tuple[str, ...]:
    """The mechanisms that a broker offers, by asking for one that does not exist; empty when it does not say."""
    plain = {
        "ssl_context": options["ssl_context"],
        "security_protocol": options["security_protocol"].removeprefix("SASL_"),
    }
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            connection = await _connect(host, port, plain)
            try:
                answer: Any = await connection.send(SaslHandShakeRequest("NONE"))
            finally:
                await connection.close()
    except (KafkaError, OSError):
        return ()
    return tuple(sorted(answer.enabled_mechanisms))


async def _speaks_tls(host: str, port: int) -> bool | None:
    """Whether a port begins a TLS handshake, with whomever; None when it does not answer at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent and nothing believed
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except ssl.SSLError as error:
        return error.reason != "WRONG_VERSION_NUMBER"
    except (ConnectionResetError, EOFError):
        return False
    except OSError:
        return None
    return True
