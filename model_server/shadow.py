"""Scoring of a run beside the live model: the run's rows, queue and push log, and topics that no gateway reads."""

from __future__ import annotations

import dataclasses
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from model_server.settings import ModelSettings, ModelShell
from schemas.keys import Keys
from schemas.topics import Outlets
from streams.service import namespaces
from streams.service.kafka import client_options
from streams.service.redis import connect

ANY_PORT = "127.0.0.1:0"


class ShadowError(Exception):
    """A namespace that cannot be scored as a shadow; the sentence says why and what to do."""

    exit_code = 78


async def open_shadow(read: ModelSettings, run: str) -> tuple[ModelSettings, Outlets]:
    """The settings and outlets of a shadow's worker, which know no live topic to write to. Raises ShadowError.

    Its probes take any port where KAIROS_HTTP does not say one: the live worker's may be on the same machine.
    """
    try:
        Keys(run)
    except ValueError as error:
        raise ShadowError(str(error)) from error
    partitions = await _refuse_others(read, run)
    connections = dataclasses.replace(read.connections, namespace=run)
    outlets = connections.topics.shadow_outlets
    await _create(read, outlets, partitions)
    shell = read.shell
    if shell.http == ModelShell.http:
        shell = dataclasses.replace(shell, http=ANY_PORT)
    return dataclasses.replace(read, connections=connections, shell=shell), outlets


async def _refuse_others(read: ModelSettings, run: str) -> int:
    """Partitions of a run; raises ShadowError unless it is one of mode shadow, and not in force."""
    installation = read.connections.namespace
    client: Any = connect(read.connections)
    try:
        force, known = await namespaces.in_force(client, installation), await namespaces.runs(client, installation)
        count = await client.hget(Keys.meta(Keys(run).user_tag(0)), "n")
    finally:
        await client.aclose()
    if run in {force.live, force.serving}:
        message = f"{run} is the namespace in force: `kairos model` scores it, and its candidates are live."
        raise ShadowError(message)
    mode = known.get(run, {}).get("mode")
    if mode != "shadow" or count is None:
        what = f"was built in mode {mode}, which keeps no queue" if mode else "is no run of this installation"
        message = f"{run} {what}: build one by `kairos replay --mode shadow --into NAME --execute`."
        raise ShadowError(message)
    return int(count)


async def _create(read: ModelSettings, outlets: Outlets, partitions: int) -> None:
    """Create the topics of a shadow where they are missing; raises ShadowError when Kafka refuses."""
    admin = AIOKafkaAdminClient(**client_options(read.connections))
    try:
        await admin.start()
        events = await admin.describe_topics([read.connections.topics.clicks])
        copies = len(events[0]["partitions"][0]["replicas"]) if events[0]["partitions"] else 1
        wanted = [NewTopic(name, partitions, copies) for name in (outlets.recommendations, outlets.decisions)]
        response = await admin.create_topics(wanted)
    finally:
        await admin.close()
    for name, code, *_ in response.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            message = f"Kafka refuses to create topic {name}: {for_code(code).__name__}."
            raise ShadowError(message)
